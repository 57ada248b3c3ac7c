/**
 * Signatures of bundles, in the layout of OPA's `.signatures.json` (https://www.openpolicyagent.org/docs/management-bundles#signing):
 * one JWS over the names and SHA-256 of all other files. ES256 and RS256; the key alone decides which one of them is meant.
 */
import type { KeyObject } from 'node:crypto'
import { createHash, createPrivateKey, createPublicKey } from 'node:crypto'
import { CompactSign, compactVerify } from 'jose'
import type { ArchiveFiles } from './bundle-archive.ts'
import { BundleRefused } from './bundle-error.ts'

/** Name of the file that holds the signature. */
export const SIGNATURES_FILE = '.signatures.json'

/** A key and the one algorithm it is used with. */
export interface BundleKey {
  readonly alg: 'ES256' | 'RS256'
  readonly key: KeyObject
}

const MIN_RSA_BITS = 2048
const HASH = 'SHA-256'

/** Reads a PEM public key. Throws an Error that says what is wrong with it, never its content. */
export function parsePublicKey(pem: string): BundleKey {
  if (pem.includes('PRIVATE KEY')) throw new Error('it holds a private key, which belongs to whoever signs')
  return toBundleKey(() => createPublicKey(pem), 'PEM public key')
}

/** Reads a PEM private key without a passphrase. Throws an Error that says what is wrong with it, never its content. */
export function parsePrivateKey(pem: string): BundleKey {
  return toBundleKey(() => createPrivateKey(pem), 'PEM private key without a passphrase')
}

/** The other half of a private key. */
export function publicKeyOf({ alg, key }: BundleKey): BundleKey {
  return { alg, key: createPublicKey(key) }
}

/** Signs files: the text of {@link SIGNATURES_FILE}. */
export async function signFiles(files: ArchiveFiles, { alg, key }: BundleKey): Promise<string> {
  const payload = Buffer.from(JSON.stringify({ files: describe(files) }))
  const token = await new CompactSign(payload).setProtectedHeader({ alg }).sign(key)
  return `${JSON.stringify({ signatures: [token] })}\n`
}

/** Checks the signature over all files but its own. Throws BundleRefused unless one of the keys has made it. */
export async function verifyFiles(files: ArchiveFiles, keys: readonly BundleKey[]): Promise<void> {
  const payload = await verifiedPayload(tokenOf(files), keys)
  const claimed = filesOf(payload)
  if (JSON.stringify(claimed) !== JSON.stringify(describe(files))) {
    throw refuse('its files are not those that were signed')
  }
}

function toBundleKey(read: () => KeyObject, wanted: string): BundleKey {
  let key: KeyObject
  try {
    key = read()
  } catch {
    // What the library says may repeat parts of the text.
    throw new Error(`it is no ${wanted}`)
  }
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {}
  if (key.asymmetricKeyType === 'ec' && namedCurve === 'prime256v1') return { alg: 'ES256', key }
  if (key.asymmetricKeyType === 'rsa' && modulusLength >= MIN_RSA_BITS) return { alg: 'RS256', key }
  throw new Error(`it is neither an EC key on P-256 nor an RSA key of ${MIN_RSA_BITS} bits or more`)
}

function tokenOf(files: ArchiveFiles): string {
  const bytes = files.get(SIGNATURES_FILE)
  if (bytes === undefined) throw refuse('it is not signed, and policy_keys asks for a signature')
  const { signatures } = asObject(parseJson(Buffer.from(bytes).toString('utf8')))
  const [token] = Array.isArray(signatures) && signatures.length === 1 ? (signatures as unknown[]) : []
  if (typeof token !== 'string') throw refuse(`${SIGNATURES_FILE} does not hold one signature`)
  return token
}

async function verifiedPayload(token: string, keys: readonly BundleKey[]): Promise<unknown> {
  for (const { alg, key } of keys) {
    try {
      const { payload } = await compactVerify(token, key, { algorithms: [alg] })
      return parseJson(Buffer.from(payload).toString('utf8'))
    } catch (error) {
      if (error instanceof BundleRefused) throw error
    }
  }
  throw refuse('none of policy_keys has made its signature')
}

interface SignedFile {
  readonly name: string
  readonly hash: string
  readonly algorithm: typeof HASH
}

function describe(files: ArchiveFiles): readonly SignedFile[] {
  return inOrder(
    [...files]
      .filter(([name]) => name !== SIGNATURES_FILE)
      .map(([name, content]) => ({ name, hash: sha256(content), algorithm: HASH })),
  )
}

function filesOf(payload: unknown): readonly SignedFile[] {
  const { files } = asObject(payload)
  if (!Array.isArray(files)) throw refuse('its signature names no files')
  return inOrder(
    files.map((file) => {
      const { name, hash, algorithm } = asObject(file)
      if (typeof name !== 'string' || typeof hash !== 'string' || algorithm !== HASH)
        throw refuse(`its signature is not over ${HASH} of its files`)
      return { name, hash, algorithm: HASH }
    }),
  )
}

function inOrder(files: readonly SignedFile[]): readonly SignedFile[] {
  return [...files].sort((a, b) => (a.name < b.name ? -1 : 1))
}

function asObject(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Readonly<Record<string, unknown>>
  throw refuse('its signature is malformed')
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw refuse('its signature is malformed', cause)
  }
}

function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}

function refuse(message: string, cause?: unknown): BundleRefused {
  return new BundleRefused('signature', `the bundle is refused: ${message}`, { cause })
}
