/** The command line in this process, with its output caught. */
import { Writable } from 'node:stream'
import { run } from '../../src/cli/run.ts'

/** What a command came to. */
export interface CliResult {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** Runs `gateway ARGS`; `isTerminal` as on a terminal of 100 columns. */
export async function runCli(args: readonly string[], isTerminal = false): Promise<CliResult> {
  const texts = { out: '', err: '' }
  const into = (name: 'out' | 'err') => {
    const stream = new Writable({
      write(chunk, _encoding, done) {
        texts[name] += String(chunk)
        done()
      },
    })
    return isTerminal ? Object.assign(stream, { isTTY: true, columns: 100 }) : stream
  }
  const code = await run(args, { stdout: into('out'), stderr: into('err') })
  return { code, ...texts }
}

/** The one JSON line on stderr. */
export function errorOf({ err }: CliResult): { readonly code: string; readonly message: string } {
  return JSON.parse(err) as { code: string; message: string }
}

/** Runs `use` with these variables, and puts the environment back as it was. undefined unsets one. */
export async function withEnvironment<T>(
  variables: Readonly<Record<string, string | undefined>>,
  use: () => Promise<T>,
): Promise<T> {
  const before = Object.fromEntries(Object.keys(variables).map((name) => [name, process.env[name]]))
  set(variables)
  try {
    return await use()
  } finally {
    set(before)
  }
}

function set(variables: Readonly<Record<string, string | undefined>>): void {
  for (const [name, value] of Object.entries(variables)) {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
}
