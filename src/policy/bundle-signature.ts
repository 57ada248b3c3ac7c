/**
 * Signatures of bundles, in the layout of OPA's `.signatures.json` (https://www.openpolicyagent.org/docs/management-bundles#signing):
 * one JWS over the names and SHA-256 of all other files. ES256 and RS256; the key alone decides which one of them is meant.
 */
import { createHash } from 'node:crypto'
import type { SigningKey } from '../signing-key.ts'
import type { ArchiveFiles } from './bundle-archive.ts'
import { BundleRefused } from './bundle-error.ts'

/** Name of the file that holds the signature. */
export const SIGNATURES_FILE = '.signatures.json'

const HASH = 'SHA-256'

/** Signs files: the text of {@link SIGNATURES_FILE}. */
export async function signFiles(files: ArchiveFiles, { alg, key }: SigningKey): Promise<string> {
  const { CompactSign } = await import('jose')
  const payload = Buffer.from(JSON.stringify({ files: describe(files) }))
  const token = await new CompactSign(payload).setProtectedHeader({ alg }).sign(key)
  return `${JSON.stringify({ signatures: [token] })}\n`
}

/** Checks the signature over all files but its own. Throws BundleRefused unless one of the keys has made it. */
export async function verifyFiles(files: ArchiveFiles, keys: readonly SigningKey[]): Promise<void> {
  const payload = await verifiedPayload(tokenOf(files), keys)
  const claimed = filesOf(payload)
  if (JSON.stringify(claimed) !== JSON.stringify(describe(files))) {
    throw refuse('its files are not those that were signed')
  }
}

function tokenOf(files: ArchiveFiles): string {
  const bytes = files.get(SIGNATURES_FILE)
  if (bytes === undefined) throw refuse('it is not signed, and policy_keys asks for a signature')
  const { signatures } = asObject(parseJson(Buffer.from(bytes).toString('utf8')))
  const [token] = Array.isArray(signatures) && signatures.length === 1 ? (signatures as unknown[]) : []
  if (typeof token !== 'string') throw refuse(`${SIGNATURES_FILE} does not hold one signature`)
  return token
}

async function verifiedPayload(token: string, keys: readonly SigningKey[]): Promise<unknown> {
  const { compactVerify } = await import('jose')
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
