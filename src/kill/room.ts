/** The door of kill switches: all that are in force in memory, kept up to date by the change feed. */
import type { Pool } from 'pg'
import { GatewayError } from '../errors.ts'
import type { Kill, KillList, KillSwitches } from '../gateway/killed.ts'
import type { ActiveKill } from './store.ts'
import { KILLS_TOPIC, loadActiveKills } from './store.ts'

/** What the room needs of the change feed. */
export interface KillChanges {
  onChange(topic: string, handler: () => Promise<void>): void
  /** By the room's monotonic clock. */
  confirmedAt(): number
}

/** What {@link createKillRoom} needs. */
export interface KillRoomOptions {
  readonly db: Pick<Pool, 'query'>
  readonly changes: KillChanges
  readonly monotonicMs: () => number
  /** When the feed has confirmed nothing for this long, the database is asked for every call. */
  readonly maxStaleMs: number
}

/** The room: what the spine needs, and what metrics and readiness show. */
export interface KillRoom extends KillSwitches {
  /** How many switches are in force, as far as memory knows. */
  counts(): { readonly tool: number; readonly server: number }
}

/** Adds its handler to the change feed, by which the switches are loaded: await the feed's `refresh()` before serving. */
export function createKillRoom({ db, changes, monotonicMs, maxStaleMs }: KillRoomOptions): KillRoom {
  let known = new Switches([], 0, monotonicMs)
  // Ends by the monotonic clock: a wall clock that jumps must not end a switch early.
  const load = async (): Promise<Switches> =>
    new Switches(await loadActiveKills(db), monotonicMs(), monotonicMs)
  const loadShared = createSharedLoad(load)
  changes.onChange(KILLS_TOPIC, async () => {
    known = await load()
  })

  async function ask(): Promise<KillList> {
    try {
      return await loadShared()
    } catch (cause) {
      throw new GatewayError('auth_unavailable', {
        cause,
        detail: 'kill switches cannot be read from the database',
      })
    }
  }

  return {
    current: () => (monotonicMs() - changes.confirmedAt() > maxStaleMs ? ask() : known),
    known: () => known,
    counts: () => known.counts(),
  }
}

interface HeldKill extends Kill {
  readonly endsAt: number
}

/** The switches of one reading. */
class Switches implements KillList {
  private readonly servers = new Map<string, HeldKill>()
  /** By name alone for those that hold on every server, by server and name for the others. */
  private readonly tools = new Map<string, HeldKill>()
  private readonly toolsOfServer = new Map<string, Map<string, HeldKill>>()
  private readonly monotonicMs: () => number

  constructor(kills: readonly ActiveKill[], readAt: number, monotonicMs: () => number) {
    this.monotonicMs = monotonicMs
    for (const kill of kills) this.add(kill, readAt)
  }

  ofServer(server: string): Kill | null {
    return this.live(this.servers.get(server))
  }

  ofTool(server: string, tool: string): Kill | null {
    return this.live(this.tools.get(tool)) ?? this.live(this.toolsOfServer.get(server)?.get(tool))
  }

  counts(): { tool: number; server: number } {
    const tools = [this.tools, ...this.toolsOfServer.values()]
    const count = (kills: ReadonlyMap<string, HeldKill>): number =>
      [...kills.values()].filter((kill) => this.live(kill) !== null).length
    return { tool: tools.reduce((sum, kills) => sum + count(kills), 0), server: count(this.servers) }
  }

  private add({ target, reason, actor, remainingMs }: ActiveKill, readAt: number): void {
    const endsAt = readAt + (remainingMs ?? Number.POSITIVE_INFINITY)
    const what =
      target.kind === 'server' || target.server === null
        ? `${target.kind} ${target.name}`
        : `tool ${target.name} on ${target.server}`
    this.placeOf(target).set(target.name, { what, reason, actor, endsAt })
  }

  private placeOf(target: ActiveKill['target']): Map<string, HeldKill> {
    if (target.kind === 'server') return this.servers
    if (target.server === null) return this.tools
    const place = this.toolsOfServer.get(target.server) ?? new Map<string, HeldKill>()
    this.toolsOfServer.set(target.server, place)
    return place
  }

  private live(kill: HeldKill | undefined): Kill | null {
    return kill !== undefined && kill.endsAt > this.monotonicMs() ? kill : null
  }
}

/**
 * One statement at a time for all who ask: whoever comes while one is running shares the next, so a flood costs the
 * database no more than one caller does, and no answer is older than its question.
 */
function createSharedLoad<T>(load: () => Promise<T>): () => Promise<T> {
  let running: Promise<unknown> = Promise.resolve()
  let next: Promise<T> | null = null
  return () => {
    if (next !== null) return next
    const result = running.then(async () => {
      next = null
      return await load()
    })
    running = result.catch(() => undefined)
    next = result
    return result
  }
}
