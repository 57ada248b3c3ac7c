/** Asking before something is done. */
import { createInterface } from 'node:readline/promises'
import { UsageError } from '../errors.ts'
import type { Streams } from './output.ts'

/** Resolves when the person says yes. Throws UsageError `interrupted` for a no, `usage` when nobody is there to ask. */
export async function confirm(question: string, streams: Streams | undefined): Promise<void> {
  const stderr = streams?.stderr ?? process.stderr
  if (!(process.stdin.isTTY && stderr.isTTY)) {
    throw new UsageError('usage', 'Nobody is here to be asked: repeat the command with --yes.')
  }
  const prompt = createInterface({ input: process.stdin, output: stderr })
  const gone = new AbortController()
  // Ctrl-C and Ctrl-D: without these the question would stay open for ever.
  prompt.once('SIGINT', () => gone.abort())
  prompt.once('close', () => gone.abort())
  try {
    const answer = await prompt.question(question, { signal: gone.signal }).catch(() => '')
    if (!/^y(es)?$/i.test(answer.trim())) throw new UsageError('interrupted', 'Nothing was changed.')
  } finally {
    prompt.close()
  }
}
