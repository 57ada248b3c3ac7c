import { UsageError } from '../errors.ts'

/** One mistake in the configuration: where, what, and the way out. Never holds a configured value. */
export interface Problem {
  /** `file:line:col`, `environment GATEWAY_X` or `flag --x`. */
  readonly at: string
  /** Path of the setting, e.g. `limits.max_body_bytes`; empty for the file as a whole. */
  readonly path: string
  readonly message: string
  readonly hint: string | null
}

/** All mistakes of a configuration at once. Code `config`, or `check_failed` where checking it was the task. */
export class ConfigError extends UsageError {
  readonly problems: readonly Problem[]

  constructor(problems: readonly Problem[], code: 'config' | 'check_failed' = 'config') {
    const sorted = [...problems].sort(byPlace)
    const count = problems.length === 1 ? '1 problem' : `${problems.length} problems`
    super(code, `the configuration has ${count}\n${sorted.map(toLine).join('\n')}`)
    this.name = 'ConfigError'
    this.problems = sorted
  }
}

/** By line and column; variables and flags come last. */
function byPlace(left: Problem, right: Problem): number {
  const [leftLine, leftColumn] = placeOf(left)
  const [rightLine, rightColumn] = placeOf(right)
  return leftLine - rightLine || leftColumn - rightColumn
}

function placeOf({ at }: Problem): [line: number, column: number] {
  const match = /:(\d+):(\d+)$/.exec(at)
  return match === null ? [Number.MAX_SAFE_INTEGER, 0] : [Number(match[1]), Number(match[2])]
}

function toLine({ at, path, message, hint }: Problem): string {
  return `  ${at}  ${path === '' ? '' : `${path}: `}${message}${hint === null ? '' : `. ${hint}`}`
}

/** A setting's path as text: `upstreams.github.url`, `allowed_hosts[2]`. */
export function pathText(path: readonly (string | number)[]): string {
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`))
    .join('')
    .replace(/^\./, '')
}
