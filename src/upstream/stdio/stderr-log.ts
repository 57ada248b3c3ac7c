/** What a stdio server writes to its standard error, as lines of the log: bounded in length and number, without secrets. */
import type { UpstreamLog } from '../upstream.ts'
import { createLines } from './lines.ts'

/** Whose stderr it is, and where its lines go. */
export interface StderrLogOptions {
  readonly upstream: string
  readonly pid: number
  /** Values that no line may show. */
  readonly secrets: readonly string[]
  readonly log: UpstreamLog
  readonly clock: { monotonicMs(): number }
}

/** Characters of a line that are kept. */
const MAX_LINE = 2000
const MAX_LINES = 100
const WINDOW_MS = 10_000
/** Shorter values stand in too many words. */
const MIN_SECRET = 6

/** Returns the function that takes the bytes. The log itself escapes what a terminal would obey. */
export function createStderrLog(options: StderrLogOptions): (chunk: Buffer) => void {
  const { upstream, pid, log, clock } = options
  const secrets = options.secrets.filter((secret) => secret.length >= MIN_SECRET)
  let windowAt = Number.NEGATIVE_INFINITY
  let written = 0
  let leftOut = 0

  function write(text: string): void {
    const now = clock.monotonicMs()
    if (now - windowAt >= WINDOW_MS) {
      if (leftOut > 0) log.warn({ upstream, pid, lines: leftOut }, 'a stdio server wrote more than is kept')
      windowAt = now
      written = 0
      leftOut = 0
    }
    written += 1
    if (written > MAX_LINES) leftOut += 1
    else log.info({ upstream, pid, stderr: withoutSecrets(text, secrets) }, 'a stdio server says')
  }

  const lines = createLines({
    maxBytes: MAX_LINE * 4,
    onLine: (line) => write(line.toString('utf8')),
    onOverlong: (head) => write(head.toString('utf8')),
  })
  return (chunk) => {
    // A line without an end is dropped piece by piece; the next line feed starts anew.
    lines.push(chunk)
  }
}

function withoutSecrets(text: string, secrets: readonly string[]): string {
  let clean = text
  for (const secret of secrets) clean = clean.replaceAll(secret, '[redacted]')
  // Cut last: half a secret would not be found.
  return clean.length > MAX_LINE ? `${clean.slice(0, MAX_LINE)}..` : clean.trimEnd()
}
