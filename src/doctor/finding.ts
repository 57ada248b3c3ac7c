/** What `gateway doctor` finds: one line per thing looked at. */

/** The things that are looked at, in the order in which they are told. */
export const CHECKS = [
  'node',
  'config',
  'policies',
  'postgres',
  'upstream',
  'audit',
  'keys',
  'listen',
] as const

/** The name of one of them. */
export type CheckName = (typeof CHECKS)[number]

/** `fail`: it does not work, or a promise does not hold. `skipped`: what it needs has failed. */
export type State = 'ok' | 'warn' | 'fail' | 'skipped'

/** One line. Texts may hold names of foreign origin: whoever shows them escapes them. Never a secret. */
export interface Finding {
  readonly check: CheckName
  /** Which of several, e.g. the name of an upstream; empty when there is one only. */
  readonly subject: string
  readonly state: State
  /** What was looked at, as shown: `node 24.21.0`, `upstream github`. */
  readonly title: string
  /** What was found. */
  readonly summary: string
  /** The way out; null when all is well. */
  readonly fix: string | null
  /** More, for `-v`. */
  readonly details: readonly string[]
}

/** Something that is not as it should be. */
export interface Trouble {
  readonly state: 'warn' | 'fail'
  readonly text: string
  readonly fix: string
}

/** One finding of facts and troubles: its state is that of the worst, which is also the one to mend first. */
export function toFinding(parts: {
  readonly check: CheckName
  readonly subject?: string
  readonly title: string
  readonly facts: readonly string[]
  readonly troubles?: readonly Trouble[]
  readonly details?: readonly string[]
}): Finding {
  const troubles = parts.troubles ?? []
  const worst = troubles.find(({ state }) => state === 'fail') ?? troubles[0] ?? null
  return {
    check: parts.check,
    subject: parts.subject ?? '',
    state: worst?.state ?? 'ok',
    title: parts.title,
    summary: [...troubles.map(({ text }) => text), ...parts.facts].join(', '),
    fix: worst?.fix ?? null,
    details: parts.details ?? [],
  }
}

/** A line for what could not be looked at. */
export function toSkipped(check: CheckName, why: string): Finding {
  return { check, subject: '', state: 'skipped', title: check, summary: why, fix: null, details: [] }
}

/** `41 s`, `3 min`, `5 h`, `12 days`. */
export function spanText(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 2 * 3600) return `${Math.round(seconds / 60)} min`
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} days`
}

/** `1 file`, `3 files`. */
export function countText(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}
