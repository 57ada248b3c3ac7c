/** Bundles for tests: built by the real compiler once, taken apart and put together again in ways that nobody should. */
import { generateKeyPairSync } from 'node:crypto'
import { gunzipSync, gzipSync } from 'node:zlib'
import { Header } from 'tar'
import { buildForBundle } from '../../src/policy/build.ts'
import type { JsonObject } from '../../src/policy/build-data.ts'
import type { BundleContent } from '../../src/policy/bundle.ts'
import { unpackArchive } from '../../src/policy/bundle-archive.ts'
import type { SigningKey } from '../../src/signing-key.ts'
import { parsePrivateKey, parsePublicKey } from '../../src/signing-key.ts'
import { fixtureCompiler } from './engine-fixture.ts'

/** A key pair: as PEM and parsed. */
export interface KeyPair {
  readonly privatePem: string
  readonly publicPem: string
  readonly signer: SigningKey
  readonly verifier: SigningKey
}

export function makeKeys(kind: 'ec' | 'rsa' = 'ec'): KeyPair {
  const { privateKey, publicKey } =
    kind === 'ec'
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
      : generateKeyPairSync('rsa', { modulusLength: 2048 })
  const privatePem = String(privateKey.export({ type: 'pkcs8', format: 'pem' }))
  const publicPem = String(publicKey.export({ type: 'spki', format: 'pem' }))
  return {
    ...{ privatePem, publicPem },
    signer: parsePrivateKey(privatePem),
    verifier: parsePublicKey(publicPem),
  }
}

/** Allows whoever has a role; the reason tells which edition decided. */
export const edition = (name: string, more = ''): string => `package gateway.authz

allow contains "${name}" if count(input.principal.roles) > 0
${more}`

/** Builds sources for a bundle. */
export async function contentOf(
  rego: Readonly<Record<string, string>>,
  data: JsonObject = {},
): Promise<Omit<BundleContent, 'sequence'>> {
  return await buildForBundle({ rego, data }, await fixtureCompiler())
}

/** The files inside. */
export async function filesOf(bundle: Uint8Array): Promise<Map<string, Uint8Array>> {
  return new Map(await unpackArchive(bundle))
}

/** The tar archive inside. */
export function tarOf(bundle: Uint8Array): Buffer {
  return gunzipSync(bundle)
}

/** One entry of an archive, of any type. */
export interface RawEntry {
  readonly path: string
  readonly type?: 'File' | 'Directory' | 'SymbolicLink' | 'Link' | 'ExtendedHeader' | 'GlobalExtendedHeader'
  readonly content?: string
  readonly linkpath?: string
  readonly mode?: number
}

/** An archive as hostile as its entries are. */
export function rawArchive(entries: readonly RawEntry[]): Buffer {
  const parts = entries.flatMap(({ path, type = 'File', content = '', linkpath, mode = 0o644 }) => {
    const block = Buffer.alloc(512)
    const body = Buffer.from(content)
    const facts = { path, type, mode, size: body.length, mtime: new Date(0), uid: 0, gid: 0 }
    new Header(linkpath === undefined ? facts : { ...facts, linkpath }).encode(block)
    return [block, body, Buffer.alloc((512 - (body.length % 512)) % 512)]
  })
  return gzipSync(Buffer.concat([...parts, Buffer.alloc(1024)]))
}
