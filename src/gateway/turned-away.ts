/**
 * The record of attempts that were turned away at the door. A few in each {@link ROUND_MS} are left to the spine, which
 * answers when their row is stored. Beyond them answers do not wait for rows, and rows must not take what the calls in
 * work need: some more have a row each, the others are counted, exactly, in one row. What waits here is bounded, and
 * nothing is dropped: rows go to the audit room, which declares what it cannot hold, and a count waits until it can be
 * stored.
 */
import type { Rooms } from './call.ts'
import { openCall } from './open-call.ts'
import { OVERLOADED } from './turns.ts'
import type { AuditEvent, Call } from './types.ts'

/** One of them. */
export interface TurnedAway {
  readonly httpMethod: string
  /** The upstream in the URL; not known to exist. */
  readonly mount: string
  readonly clientIp: string
}

/** What {@link createTurnedAway} needs. */
export interface TurnedAwayOptions {
  readonly rooms: Pick<Rooms, 'audit' | 'clock' | 'newId'>
  /** Told once a second how many were turned away, when there were any. Must not throw. */
  readonly onCount: (count: number) => void
}

/** Keeps the record as long as it is open. */
export interface TurnedAwayRecord {
  /** Whether there are so many that the next one has to be noted here; asked once for each. */
  isFlood(): boolean
  /** Takes one in; returns the id of the row that will tell of it. */
  note(attempt: TurnedAway): string
  /** Hands over what has gathered; called by its own timer. */
  round(): void
  /** Hands over the rest; resolves when the audit room has taken everything. */
  close(): Promise<void>
}

/** Between two rounds: what a crash can lose; and rounds in a second. */
const [ROUND_MS, ROUNDS] = [200, 5]
/** Left to the spine in one round. */
const LEFT_TO_SPINE = 5
/** Rows of their own in one round. */
const OWN_ROWS = 100
/** Addresses that a counted row names. */
const MAX_ADDRESSES = 20

/** Begins the rounds; close it when the door is closed. */
export function createTurnedAway(options: TurnedAwayOptions): TurnedAwayRecord {
  const record = new TurnedAwayRows(options)
  const timer = setInterval(() => record.round(), ROUND_MS)
  timer.unref()
  return {
    isFlood: () => record.isFlood(),
    note: (attempt) => record.note(attempt),
    round: () => record.round(),
    async close() {
      clearInterval(timer)
      await record.close()
    },
  }
}

interface Own extends TurnedAway {
  readonly id: string
  readonly atMs: number
}

/** Those that share a row. */
interface Crowd {
  readonly id: string
  readonly fromMs: number
  toMs: number
  count: number
  others: number
  readonly addresses: Map<string, number>
}

class TurnedAwayRows {
  readonly #options: TurnedAwayOptions
  #count = 0
  #rounds = 0
  #leftToSpine = 0
  #own: Own[] = []
  #crowd: Crowd | null = null
  #crowdIsOnItsWay = false
  readonly #pending = new Set<Promise<void>>()

  constructor(options: TurnedAwayOptions) {
    this.#options = options
  }

  isFlood(): boolean {
    if (this.#leftToSpine >= LEFT_TO_SPINE) return true
    this.#leftToSpine += 1
    return false
  }

  note(attempt: TurnedAway): string {
    const { clock, newId } = this.#options.rooms
    const atMs = clock.nowMs()
    this.#count += 1
    if (this.#own.length < OWN_ROWS) {
      const id = newId(atMs)
      this.#own.push({ ...attempt, id, atMs })
      return id
    }
    this.#crowd ??= { id: newId(atMs), fromMs: atMs, toMs: atMs, count: 0, others: 0, addresses: new Map() }
    addTo(this.#crowd, attempt.clientIp, atMs)
    return this.#crowd.id
  }

  round(): void {
    this.#rounds += 1
    this.#leftToSpine = 0
    if (this.#rounds % ROUNDS === 0) this.#tell()
    for (const one of this.#own.splice(0)) this.#handOver(eventOf(ownCall(one)))
    if (this.#crowd !== null && !this.#crowdIsOnItsWay) this.#track(this.#storeCrowd(this.#crowd))
  }

  async close(): Promise<void> {
    this.#tell()
    this.round()
    await Promise.all(this.#pending)
    // The audit room would not promise to store it; that it is tried is the most that is left.
    if (this.#crowd !== null) this.#handOver(eventOf(crowdCall(this.#crowd)))
    this.#crowd = null
    await Promise.all(this.#pending)
  }

  #tell(): void {
    if (this.#count > 0) this.#options.onCount(this.#count)
    this.#count = 0
  }

  /** Who comes while the audit room is asked still joins; when it says no, the crowd waits for the next round. */
  async #storeCrowd(crowd: Crowd): Promise<void> {
    this.#crowdIsOnItsWay = true
    try {
      await this.#options.rooms.audit.begin(crowdCall(crowd))
    } catch {
      return
    } finally {
      this.#crowdIsOnItsWay = false
    }
    this.#crowd = null
    this.#handOver(eventOf(crowdCall(crowd)))
  }

  /** A row that cannot be stored now stays with the audit room. */
  #handOver(event: AuditEvent): void {
    this.#track(this.#options.rooms.audit.end(event).catch(() => undefined))
  }

  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#pending.delete(tracked))
    this.#pending.add(tracked)
  }
}

function addTo(crowd: Crowd, address: string, atMs: number): void {
  crowd.count += 1
  crowd.toMs = atMs
  const before = crowd.addresses.get(address)
  if (before === undefined && crowd.addresses.size >= MAX_ADDRESSES) crowd.others += 1
  else crowd.addresses.set(address, (before ?? 0) + 1)
}

function ownCall({ id, atMs, httpMethod, mount, clientIp }: Own): Call {
  const call = callAt(id, atMs, { httpMethod, mount })
  call.clientIp = clientIp
  return call
}

function crowdCall({ id, fromMs, toMs, count, others, addresses }: Crowd): Call {
  const counted = { count, fromMs, toMs, addresses: Object.fromEntries(addresses), others }
  return { ...callAt(id, fromMs, { httpMethod: '', mount: '' }), counted }
}

/** Without headers: a row that holds nothing of a request has nothing to be cleaned of. */
function callAt(id: string, atMs: number, { httpMethod, mount }: Omit<TurnedAway, 'clientIp'>): Call {
  const head = { httpMethod, mount, rawHeaders: [], headers: {}, peer: '' }
  return openCall({ clock: { nowMs: () => atMs, monotonicMs: () => 0 }, newId: () => id }, head)
}

function eventOf(call: Call): AuditEvent {
  const ending = { outcome: 'overloaded', status: 503, kind: 'overloaded', error: OVERLOADED } as const
  return { call, ending: { ...ending, response: null, latencyMs: 0 } }
}
