/**
 * The policy room of a gateway that reloads: one engine for each policy that calls still depend on. A call stays with
 * the policy that decided it, to the last list element of its answer; new calls get the newest.
 */
import type { CompiledPolicy } from './build.ts'
import type { PolicyRoom } from './engine.ts'

/** What {@link createReloadableRoom} needs. */
export interface ReloadableRoomOptions {
  /** The room of the policy that is in force at the start. */
  readonly first: PolicyRoom
  /** Makes the room of another one. Rejects with a PolicyFault when it cannot be loaded. */
  readonly open: (policy: CompiledPolicy) => Promise<PolicyRoom>
}

/** A {@link PolicyRoom} whose policy can be exchanged. */
export interface ReloadableRoom extends PolicyRoom {
  /**
   * Puts another policy in force, between two evaluations; calls under way stay on the one they began with. Exchanges happen
   * in the order they were asked for. Rejects with a PolicyFault when it cannot be loaded; the one in force then stays.
   */
  replace(policy: CompiledPolicy): Promise<void>
}

/** Makes the room. */
export function createReloadableRoom({ first, open }: ReloadableRoomOptions): ReloadableRoom {
  let current = first
  let isClosed = false
  let exchange: Promise<void> = Promise.resolve()
  /**
   * Rooms of earlier policies. An evaluation holds on to the room that made it (its trace is read there), so a room can be
   * had from here exactly as long as a call needs it, and no longer.
   */
  const earlier = new Map<string, WeakRef<PolicyRoom>>()

  function roomOf(decidedBy: PolicyRoom['revision'] | undefined): PolicyRoom {
    if (decidedBy === undefined || keyOf(decidedBy) === keyOf(current.revision)) return current
    return earlier.get(keyOf(decidedBy))?.deref() ?? current
  }

  function keep(room: PolicyRoom): void {
    for (const [key, ref] of earlier) if (ref.deref() === undefined) earlier.delete(key)
    earlier.set(keyOf(room.revision), new WeakRef(room))
  }

  async function exchangeFor(policy: CompiledPolicy): Promise<void> {
    const next = await open(policy)
    if (isClosed) next.close()
    keep(current)
    current = next
  }

  return {
    decide: (call) => current.decide(call),
    visible: (call, targets) => roomOf(call.evaluation?.policy).visible(call, targets),
    get revision() {
      return current.revision
    },
    get hasMasks() {
      return current.hasMasks
    },
    replace(policy) {
      const replaced = exchange.then(() => exchangeFor(policy))
      exchange = replaced.catch(() => undefined)
      return replaced
    },
    close() {
      isClosed = true
      current.close()
      for (const ref of earlier.values()) ref.deref()?.close()
    },
  }
}

function keyOf({ digest, revision }: PolicyRoom['revision']): string {
  return `${digest} ${revision}`
}
