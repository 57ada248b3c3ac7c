/**
 * How the command line speaks: data on stdout, talk on stderr, `--json` for programs.
 *
 * Names, reasons and texts that come from clients, upstreams or policies are hostile: whatever is shown passes
 * {@link escapeText}, so nothing can move the cursor, colour the terminal or hide characters.
 */
import { styleText } from 'node:util'
import { UsageError } from '../errors.ts'
import type { Progress } from './progress.ts'
import { createProgress } from './progress.ts'
import type { Cell } from './table.ts'
import { layoutTable } from './table.ts'
import { escapeText } from './text.ts'

/** Exit codes of every command. `failed`: the thing that was checked failed. `usage`: wrong use or environment. */
export const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const

/** Options every command has. */
export interface OutputOptions {
  /** `--json`: programs read the output. */
  readonly json?: boolean | undefined
  /** `--no-color` makes it false. NO_COLOR, FORCE_COLOR, TERM and pipes are honoured without it. */
  readonly color?: boolean | undefined
}

/** Where a command writes. `process.stdout` and `process.stderr`, or plain streams in tests. */
export interface Streams {
  readonly stdout: NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number }
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number }
}

/** The few looks the command line uses. Each also carries a word or shape: colour is never the only sign. */
export type Look = 'good' | 'bad' | 'warn' | 'dim' | 'strong'

const LOOKS = {
  good: 'green',
  bad: 'red',
  warn: 'yellow',
  dim: 'dim',
  strong: 'bold',
} as const satisfies Record<Look, string>

/** What a command prints with. */
export interface Output {
  readonly isJson: boolean
  /** stdout is a terminal. */
  readonly isTerminal: boolean
  /** Colours a text that goes to stdout. The text is not escaped: do that to foreign parts first. */
  style(look: Look, text: string): string
  /** One line of data on stdout, as it stands. */
  line(text?: string): void
  /** A table on stdout: aligned and cut to the terminal's width, or tab-separated without a header when piped. */
  table(headers: readonly string[], rows: readonly (readonly Cell[])[], options?: { full?: boolean }): void
  /** One JSON document on stdout. */
  json(value: unknown): void
  /** One JSON value on one line of stdout (for `tail`). */
  ndjson(value: unknown): void
  /** Talk for a person, on stderr. Nothing under `--json`. */
  note(text: string): void
  /** The command to try next, on stderr. Nothing under `--json`. */
  next(command: string): void
  /** Runs something that may take long; what it does is told on stderr once it has taken a second. */
  progress<T>(text: string, run: (progress: Progress) => Promise<T>): Promise<T>
  /** Prints an error on stderr and returns the exit code that belongs to it. */
  fail(error: unknown): number
}

/** @param streams where to write; the process's own streams unless a test hands in others */
export function createOutput(options: OutputOptions, streams: Streams = process): Output {
  const isJson = options.json === true
  const isTerminal = streams.stdout.isTTY === true
  const paint = (look: Look, text: string, stream: NodeJS.WritableStream): string =>
    options.color === false ? text : styleText(LOOKS[look], text, { stream })
  const talk = (text: string): void => {
    if (!isJson) streams.stderr.write(`${text}\n`)
  }
  const line = (text = ''): void => {
    streams.stdout.write(`${text}\n`)
  }

  return {
    isJson,
    isTerminal,
    line,
    style: (look, text) => paint(look, text, streams.stdout),
    table(headers, rows, tableOptions = {}) {
      const width = tableOptions.full === true ? Number.POSITIVE_INFINITY : (streams.stdout.columns ?? 100)
      const lines = layoutTable(headers, rows, isTerminal ? { width } : 'tabs')
      lines.forEach((text, at) => {
        line(isTerminal && at === 0 ? paint('dim', text, streams.stdout) : text)
      })
    },
    json: (value) => line(JSON.stringify(value, null, 2)),
    ndjson: (value) => line(JSON.stringify(value)),
    note: talk,
    next: (command) => talk(`${paint('dim', 'Next:', streams.stderr)} ${command}`),
    progress: (text, run) => createProgress(talk).run(text, run),
    fail(error) {
      const told = toCliError(error)
      if (isJson) {
        streams.stderr.write(`${JSON.stringify({ code: told.code, message: told.message, ...told.extra })}\n`)
      } else {
        streams.stderr.write(`${paint('bad', 'error:', streams.stderr)} ${told.message}\n`)
      }
      return told.exit
    },
  }
}

interface CliError {
  readonly code: string
  readonly message: string
  readonly extra: Readonly<Record<string, unknown>>
  readonly exit: number
}

/** An error that says more to programs than its text: `problems` goes into the JSON line. */
interface DetailedError {
  readonly problems?: readonly unknown[]
}

function toCliError(error: unknown): CliError {
  if (error instanceof UsageError) {
    const { problems } = error as UsageError & DetailedError
    const extra = problems === undefined ? {} : { problems }
    return { code: error.code, message: escapeLines(error.message), extra, exit: exitOf(error.code) }
  }
  // A fault: the stack is what its report needs. It names code, never configuration values or secrets.
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return {
    code: 'internal',
    message: `This is a fault of the gateway itself, please report it.\n${escapeLines(stack)}`,
    extra: {},
    exit: EXIT.usage,
  }
}

function exitOf(code: string): number {
  if (code === 'check_failed') return EXIT.failed
  if (code === 'interrupted') return EXIT.interrupted
  return EXIT.usage
}

/** Escapes every line on its own, so that the line breaks of our own texts stay. */
function escapeLines(text: string): string {
  return text.split('\n').map(escapeText).join('\n')
}
