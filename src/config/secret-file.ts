import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'

/** A secret is a line, not a disk image. */
const MAX_SECRET_BYTES = 65_536

/**
 * The content of a file that holds one secret, without its final line break. Throws an Error whose message names the
 * file and what is wrong with it, never its content.
 */
export function readSecretFile(path: string): string {
  let handle: number
  try {
    handle = openSync(path, 'r')
  } catch (cause) {
    throw new Error(`cannot open ${path} (${errorCode(cause)})`, { cause })
  }
  try {
    const facts = fstatSync(handle)
    if (!facts.isFile()) throw new Error(`${path} is not a file`)
    if (facts.size > MAX_SECRET_BYTES) throw new Error(`${path} is larger than ${MAX_SECRET_BYTES} bytes`)
    const text = readFileSync(handle, 'utf8').replace(/\r?\n$/, '')
    if (text === '') throw new Error(`${path} is empty`)
    return text
  } finally {
    closeSync(handle)
  }
}

function errorCode(cause: unknown): string {
  return cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown reason'
}
