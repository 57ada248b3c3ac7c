/** Files that `gateway policy test` writes. */
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { UsageError } from '../errors.ts'
import type { TableUpdate } from '../policy/testing/update.ts'

/** Writes a report, over whatever is there; makes the folder. Throws UsageError `usage`. */
export async function writeReport(file: string, text: string): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, text)
  } catch (cause) {
    throw unwritable(file, cause)
  }
}

/** Writes a table: whole or not at all, and not when somebody has changed it since. Throws UsageError `usage`. */
export async function writeTable(folder: string, { file, before, after }: TableUpdate): Promise<void> {
  const path = join(folder, file)
  let draft: string | null = null
  try {
    const target = await realpath(path)
    if ((await readFile(target, 'utf8')) !== before)
      throw new UsageError('usage', `${path} has changed meanwhile: nothing was written to it. Run it again.`)
    draft = `${target}.${randomBytes(4).toString('hex')}.part`
    await writeFile(draft, after, { flag: 'wx', mode: (await stat(target)).mode })
    await rename(draft, target)
  } catch (cause) {
    if (draft !== null) await rm(draft, { force: true })
    if (cause instanceof UsageError) throw cause
    throw unwritable(path, cause)
  }
}

function unwritable(file: string, cause: unknown): UsageError {
  const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause)
  return new UsageError('usage', `${file} cannot be written (${reason}).`, { cause })
}
