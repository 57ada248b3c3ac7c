/** Kill switches, as the spine asks for them: what was stopped by hand, whatever the policy says. */
import { GatewayError } from '../errors.ts'
import { target, targetOf } from './targets.ts'
import type { Call, Message, Target, TargetVerdict } from './types.ts'

/** A switch that is in force. Texts are of the person who set it, for the row and never for the caller. */
export interface Kill {
  /** What it stops, for the row: `server github`, `tool delete_repo on github`. */
  readonly what: string
  readonly reason: string
  readonly actor: string
}

/** The switches in force at one moment. */
export interface KillList {
  ofServer(server: string): Kill | null
  ofTool(server: string, tool: string): Kill | null
}

/** What the spine needs of kill switches; see `Rooms`. */
export interface KillSwitches {
  /**
   * The list for a new call. From memory; from the database when memory may be behind. Throws `auth_unavailable` when it
   * cannot be known which switches are in force.
   */
  current(): KillList | Promise<KillList>
  /** What memory knows, for streams that are open. */
  known(): KillList
}

/** @throws GatewayError `killed` */
export function refuseKilled(kill: Kill | null): void {
  if (kill !== null) throw killedError(kill)
}

/** The refusal of a call to what a switch has stopped. */
export function killedError(kill: Kill): GatewayError {
  return new GatewayError('killed', { detail: `${kill.what} was stopped by ${kill.actor}: ${kill.reason}` })
}

/** The target for the row of a call to a killed server, where even a method nobody knows is refused as killed. */
export function targetOfKilled(message: Message, server: string): Target {
  try {
    return targetOf(message, server)
  } catch {
    return target('server', server)
  }
}

/** Takes tools that were stopped out of a list; `verdicts` are the policy's. */
export function withoutKilled(
  kills: KillList,
  call: Call,
  verdicts: readonly TargetVerdict[],
): readonly TargetVerdict[] {
  return verdicts.map((verdict) =>
    kills.ofTool(call.head.mount, verdict.name) === null ? verdict : { ...verdict, ...HIDDEN },
  )
}

const HIDDEN = { allow: false, allowedBy: [], deniedBy: ['killed'] } as const
