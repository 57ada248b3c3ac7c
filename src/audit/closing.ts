/** The end of the audit room: what was not sent by then, and where it is. */
import type { GatewayError } from '../errors.ts'
import type { Backlog } from './backlog.ts'
import type { DeadLetters } from './dead-letters.ts'
import type { AuditLog } from './limits.ts'
import type { Spool } from './spool.ts'
import type { OwnFolder } from './spool-folder.ts'
import { withDeadline } from './spool-wait.ts'
import type { Store } from './store.ts'
import { reasonOf, sqlState } from './store.ts'

/** Rows that the spool keeps for the next start, and rows that are lost. */
export interface Left {
  readonly waiting: number
  readonly unwritten: number
}

/** What has to be closed, and how. */
export interface ClosingParts {
  readonly store: Store
  readonly backlog: Backlog
  readonly spool: Spool
  readonly folder: OwnFolder | null
  readonly deadLetters: DeadLetters
  /** Every row is committed, so that the last checkpoint can be made. */
  readonly isFlushed: boolean
  readonly deadlineMs: number
  /** What those are told who wait for a commit still. */
  readonly refusal: GatewayError
  readonly log: AuditLog
}

/** Closes the parts, in order, when nothing is sent any more. */
export async function closeParts(parts: ClosingParts): Promise<Left> {
  const { backlog, log } = parts
  await closeStore(parts)
  const left = backlog.inMemory()
  for (const waiting of left) waiting.settle?.(parts.refusal)
  await parts.spool.close()
  await parts.folder?.release()
  await parts.deadLetters.close()
  const unplaced = left.filter(({ place }) => place === null)
  const waiting = backlog.rows - unplaced.length
  const ids = unplaced.slice(0, 50).map(({ entry }) => entry.row.id)
  if (waiting > 0) log.warn({ waiting }, 'audit rows wait in the spool for the next start')
  if (ids.length > 0) {
    log.error({ unwritten: unplaced.length, ids }, 'audit rows could not be written before the end')
  }
  return { waiting, unwritten: unplaced.length }
}

async function closeStore({ store, isFlushed, deadlineMs, log }: ClosingParts): Promise<void> {
  try {
    await withDeadline(store.close(isFlushed), deadlineMs)
  } catch (thrown) {
    const fields = { sqlstate: sqlState(thrown), error: reasonOf(thrown) }
    log.warn(fields, 'the last checkpoint of the audit log could not be made')
  }
}
