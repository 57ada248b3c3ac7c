/** What the parts of the composition get to build with. */
import type { Config } from '../config/types.ts'
import type { Rooms } from '../gateway/call.ts'
import type { Log } from '../log.ts'
import type { SchemaPlans } from '../upstream/schema-plans.ts'

/** What {@link startGateway} takes besides the configuration. */
export interface StartOptions {
  readonly log: Log
  /** Told what is going on: worth showing when it takes longer than a second. */
  readonly onProgress?: (text: string) => void
  /** Wall clock, ms since the epoch; tests move it. */
  readonly nowMs?: () => number
  /** Compiled schemas of tools, when several gateways run in this process. Left open when this one closes. */
  readonly schemas?: SchemaPlans
}

/** What every opener gets. */
export interface Building {
  readonly config: Config
  readonly options: StartOptions
  /** Remembers how to close what was made; closed in reverse order. */
  readonly own: <T>(thing: T, release: (thing: T) => Promise<void> | void) => T
}

/** Clocks, ids and the process's name: made here and nowhere else. */
export interface Ground {
  readonly clock: Rooms['clock']
  readonly newId: (ms: number) => string
  readonly processId: string
}

/** What it takes to record an attempt. */
export type Recording = Pick<Rooms, 'audit' | 'http' | 'clock' | 'newId' | 'observe'>
