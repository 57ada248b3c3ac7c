/** Small files that others replace while the gateway runs: tokens, keys, certificates. */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { failed } from './head-plan.ts'

/** A token or a chain of certificates, not a disk image. */
const MAX_BYTES = 262_144

/** What was read is used this long: a request is cheaper than a file, and a second old is as good as new. */
const FRESH_MS = 1000

/** The content of files, never older than a second. */
export interface FreshFiles {
  /** The contents in the order of the paths. Throws `upstream_failed` naming the file, never what is in it. */
  read(): Promise<readonly string[]>
  /** The next reading goes to the disk. */
  forget(): void
}

/** All who want to read at once share one reading; one that failed is not remembered. */
export function createFreshFiles(paths: readonly string[], clock: { monotonicMs(): number }): FreshFiles {
  let reading: { readonly texts: Promise<readonly string[]>; readonly startedAt: number } | null = null

  function start(): Promise<readonly string[]> {
    const texts = Promise.all(paths.map(readSmallFile))
    const started = { texts, startedAt: clock.monotonicMs() }
    reading = started
    texts.catch(() => {
      if (reading === started) reading = null
    })
    return texts
  }

  return {
    read: () =>
      reading !== null && clock.monotonicMs() - reading.startedAt < FRESH_MS ? reading.texts : start(),
    forget: () => {
      reading = null
    },
  }
}

/** The text without its final line break. */
async function readSmallFile(path: string): Promise<string> {
  let text: string
  try {
    // A pipe in its place must not hold a thread until somebody writes.
    const file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
    try {
      const facts = await file.stat()
      if (!facts.isFile()) throw failed(`${path} is not a file`)
      if (facts.size > MAX_BYTES) throw failed(`${path} is larger than ${MAX_BYTES} bytes`)
      text = (await file.readFile('utf8')).replace(/\r?\n$/, '')
    } finally {
      await file.close()
    }
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : null
    throw code === null ? thrown : failed(`cannot read ${path} (${code})`)
  }
  if (text === '') throw failed(`${path} is empty`)
  return text
}
