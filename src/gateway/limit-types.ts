/** Limits: what a policy asks for, and what became of it. Types only; the words are those of `types.ts`. */

/** The rest of the day or month, UTC. */
export type Calendar = 'day' | 'month'

/** One part of what a limit counts by. */
export type KeyPart = string | number | boolean

interface LimitFacts {
  /** `^[a-z][a-z0-9-]{0,63}$`; callers see it in the RateLimit fields. */
  readonly name: string
  /** Whose points are counted: parts are told apart by type and place. Hashed before they are stored. */
  readonly key: readonly KeyPart[]
  /** Points per window, 1 to 1e9. */
  readonly limit: number
  /** Points this call takes, 1 to `limit`; default 1. */
  readonly cost?: number
  /** When the database cannot count: refuse the call (default), or count in this process alone. */
  readonly on_store_error?: 'deny' | 'local'
  /** `shadow`: count and report, never refuse. Default `enforce`. */
  readonly mode?: 'enforce' | 'shadow'
}

/** A limit as the policy returns it: either `window_s` (1 to 2 678 400) or `calendar`. */
export type Limit = LimitFacts &
  (
    | { readonly window_s: number; readonly calendar?: undefined }
    | { readonly calendar: Calendar; readonly window_s?: undefined }
  )

/** What became of one limit of a call. Stored in the audit row, so in its spelling. */
export interface LimitReport {
  readonly name: string
  /** Points used in the window, with this call's if it was charged. */
  readonly consumed: number
  readonly limit: number
  /** Points left, never below 0. */
  readonly remaining: number
  /** Milliseconds until the window ends; of one that no charge has begun: its whole length. */
  readonly reset_ms: number
  /** Seconds; of a calendar window the longest it can be. */
  readonly window_s: number
  /** Only of calendar windows. */
  readonly calendar?: Calendar
  readonly cost: number
  /** `local`: the database could not count, this process did. */
  readonly source: 'db' | 'local'
  readonly mode: 'enforce' | 'shadow'
  /** The call did not fit into this limit. In `shadow` mode: it would have been refused. */
  readonly refused: boolean
}

/** What became of all limits of one call: charged together, or not at all. */
export interface ChargeReport {
  readonly allowed: boolean
  /** When the longest of the limits that refused is free again, at least 1; null when allowed. */
  readonly retryAfterSeconds: number | null
  /** In the order of the limits. */
  readonly limits: readonly LimitReport[]
}
