import { randomBytes } from 'node:crypto'
import { link, rm, writeFile } from 'node:fs/promises'
import { readSecretFile } from './secret-file.ts'

/**
 * The secret of a gateway with an embedded database: read from `file`, made there first (256 bits, mode 0600) when it is
 * missing. Two processes that start together end up with the same one. Throws when the file exists and cannot be read.
 */
export async function loadOrMakeSecret(file: string): Promise<string> {
  const secret = await loadOrMakeFile(file, () => `${randomBytes(32).toString('hex')}\n`)
  if (secret.length < 43) throw new Error(`${file} is damaged: restore it from a backup, or remove it`)
  return secret
}

/** The content of `file`, which is made first (mode 0600) when it is missing; the same for all who start together. */
export async function loadOrMakeFile(file: string, make: () => string): Promise<string> {
  const temporary = `${file}.${randomBytes(6).toString('hex')}`
  await writeFile(temporary, make(), { mode: 0o600, flag: 'wx', flush: true })
  try {
    // Unlike a rename, a link never replaces the one that another process has made in the meantime.
    await link(temporary, file)
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'EEXIST')) throw cause
  } finally {
    await rm(temporary, { force: true })
  }
  return readSecretFile(file)
}
