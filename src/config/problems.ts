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

/** The candidate nearest to a mistyped name, or null when none is near enough to be meant. */
export function nearestName(name: string, candidates: readonly string[]): string | null {
  const wanted = normalise(name)
  let best: { name: string; distance: number } | null = null
  for (const candidate of candidates) {
    const distance = editDistance(wanted, normalise(candidate))
    if (best === null || distance < best.distance) best = { name: candidate, distance }
  }
  if (best === null || best.distance > Math.max(1, Math.floor(Math.min(wanted.length, 24) / 3))) return null
  return best.name
}

function normalise(name: string): string {
  return name.slice(0, 64).toLowerCase().replaceAll('-', '_')
}

/** Number of edits (insert, delete, replace, swap of neighbours) between two short texts. */
export function editDistance(left: string, right: string): number {
  let before: readonly number[] = []
  let previous: readonly number[] = Array.from({ length: right.length + 1 }, (_, at) => at)
  for (let row = 1; row <= left.length; row += 1) {
    const current = [row]
    for (let column = 1; column <= right.length; column += 1) {
      const isSame = left[row - 1] === right[column - 1]
      const isSwapped = left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1]
      current.push(
        Math.min(
          at(previous, column) + 1,
          at(current, column - 1) + 1,
          at(previous, column - 1) + (isSame ? 0 : 1),
          isSwapped ? at(before, column - 2) + 1 : Number.POSITIVE_INFINITY,
        ),
      )
    }
    before = previous
    previous = current
  }
  return at(previous, right.length)
}

/** Outside the table there is nothing to build on. */
function at(row: readonly number[], column: number): number {
  return row[column] ?? Number.POSITIVE_INFINITY
}
