/**
 * The log of one evaluation's events. Probes run inside the module's loops, so logging one is a few array writes: which
 * probe and at which addresses its values are. The values are read when the evaluation is over.
 *
 * The log is bounded, and a loop over a long array must not push out the rule that decides: each probe may log only so
 * many events, a definition entered too often is left out with all that happens in it, and room for the `leave` of
 * every logged `enter` is kept. Where events of a body were left out the next logged event says so, for nothing can be
 * concluded across such a gap.
 */
import { PolicyFault } from './host-fault.ts'

/** What a probe tells, see `dictionary.ts`. */
export type EventOp = 'enter' | 'ok' | 'begin' | 'leave'

/** One builtin of a module that is a probe. */
export interface Probe {
  readonly op: EventOp
  /** Id in the dictionary. */
  readonly id: number
}

/** A probe whose place in the dictionary is known; the events of a hidden one only count against the bound. */
export interface KnownProbe extends Probe {
  readonly hidden: boolean
}

/** Bounds of one evaluation's log. */
export interface EventBounds {
  /** Events that are kept. */
  readonly maxLogged: number
  /** Events of one probe that are kept. */
  readonly maxPerProbe: number
  /** Events altogether; one more ends the evaluation. They are counted, not kept, but each costs time. */
  readonly maxEvents: number
}

const STRIDE = 6
const FIRST_ADDRESS = 2
const GAP = 0x100
const COUNT = 0xff

const OP_NUMBER: Readonly<Record<EventOp, number>> = { enter: 1, leave: 2, ok: 3, begin: 4 }
const HIDDEN = 5

/** A log that is reused from evaluation to evaluation. `probes` maps the module's builtin numbers to probes. */
export class EventLog {
  private readonly probes: readonly (KnownProbe | undefined)[]
  private readonly bounds: EventBounds
  private readonly ops: Uint8Array
  /** Per builtin number: events logged in this evaluation. */
  private readonly counts: Uint32Array
  private readonly entries: Uint32Array
  private recording = false
  private used = 0
  private total = 0
  private hidden = 0
  /** Logged frames that have not been left; each has a place for its `leave` kept. */
  private open = 0
  /** Depth below the first frame that is left out; 0 = nothing is. */
  private skipping = 0
  private gap = false

  constructor(probes: readonly (KnownProbe | undefined)[], bounds: EventBounds) {
    this.probes = probes
    this.bounds = bounds
    this.ops = Uint8Array.from(probes, opNumber)
    this.counts = new Uint32Array(probes.length)
    this.entries = new Uint32Array(bounds.maxLogged * STRIDE)
  }

  /** Starts a new evaluation; when not `recording`, events are only counted. */
  start(recording: boolean): void {
    this.recording = recording
    this.used = 0
    this.total = 0
    this.hidden = 0
    this.open = 0
    this.skipping = 0
    this.gap = false
    this.counts.fill(0)
  }

  isProbe(builtin: number): boolean {
    return (this.ops[builtin] ?? 0) > 0
  }

  /**
   * Logs one event; unused addresses are 0.
   * @throws PolicyFault `events` when there are too many
   */
  add(builtin: number, count: number, a: number, b: number, c: number, d: number): void {
    this.total += 1
    if (this.total > this.bounds.maxEvents) {
      throw new PolicyFault('events', `the evaluation made more than ${this.bounds.maxEvents} trace events`)
    }
    if (!this.recording || !this.admit(builtin)) return
    const at = this.used * STRIDE
    const entries = this.entries
    entries[at] = builtin
    entries[at + 1] = this.gap ? count | GAP : count
    entries[at + 2] = a
    entries[at + 3] = b
    entries[at + 4] = c
    entries[at + 5] = d
    this.used += 1
    this.gap = false
  }

  /** Events that would have been shown and were not logged. */
  get dropped(): number {
    return this.total - this.hidden - this.used
  }

  /** Whether events were left out behind the last logged one. */
  get endsInGap(): boolean {
    return this.gap
  }

  /** Number of logged events. What they hold is valid until the next {@link start}. */
  get length(): number {
    return this.used
  }

  probeAt(index: number): Probe | undefined {
    return this.probes[this.entries[index * STRIDE] ?? 0]
  }

  /** Whether events of the same body were left out just before this one. */
  gapAt(index: number): boolean {
    return ((this.entries[index * STRIDE + 1] ?? 0) & GAP) !== 0
  }

  /** How many values it carries. */
  valuesAt(index: number): number {
    return (this.entries[index * STRIDE + 1] ?? 0) & COUNT
  }

  /** Address of its value number `value`. */
  addressAt(index: number, value: number): number {
    return this.entries[index * STRIDE + FIRST_ADDRESS + value] ?? 0
  }

  /** Decides whether the event is kept, and keeps the count of open frames. */
  private admit(builtin: number): boolean {
    switch (this.ops[builtin]) {
      case OP_NUMBER.enter:
        return this.admitEnter(builtin)
      case OP_NUMBER.leave:
        return this.admitLeave()
      case HIDDEN:
        this.hidden += 1
        return false
      default:
        return this.admitStep(builtin)
    }
  }

  private admitEnter(builtin: number): boolean {
    if (this.skipping === 0 && this.used + this.open + 2 <= this.bounds.maxLogged && this.countUp(builtin)) {
      this.open += 1
      return true
    }
    this.skipping += 1
    return false
  }

  private admitLeave(): boolean {
    if (this.skipping > 0) {
      this.skipping -= 1
      return false
    }
    this.open -= 1
    return true
  }

  private admitStep(builtin: number): boolean {
    if (this.skipping > 0) return false
    if (this.used + this.open + 1 <= this.bounds.maxLogged && this.countUp(builtin)) return true
    this.gap = true
    return false
  }

  private countUp(builtin: number): boolean {
    const count = this.counts[builtin] ?? 0
    if (count >= this.bounds.maxPerProbe) return false
    this.counts[builtin] = count + 1
    return true
  }
}

function opNumber(probe: KnownProbe | undefined): number {
  if (probe === undefined) return 0
  return probe.hidden ? HIDDEN : OP_NUMBER[probe.op]
}
