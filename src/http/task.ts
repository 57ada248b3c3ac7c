/**
 * Task ids of upstreams (2025-11-25 `basic/utilities/tasks`; 2026-07-28 extension `io.modelcontextprotocol/tasks`), bound to
 * the principal and mount they were issued to; see `binding.ts`. What a client sends carries bound ids, what goes up the
 * upstream's own: every place in a message that names a task is changed on the text.
 */

import { GatewayError } from '../errors.ts'
import { MERGED, namePrefix, splitName } from '../gateway/federation/names.ts'
import type { Era } from '../gateway/types.ts'
import { isObject } from '../json/object.ts'
import { isWellFormed } from '../json/scan.ts'
import type { SpanEdit } from '../json/span.ts'
import { findValue, replaceSpans } from '../json/span.ts'
import type { Owner } from './binding.ts'
import { createBinder } from './binding.ts'
import type { Envelope } from './envelope.ts'
import { MessageRefusal } from './message-refusal.ts'
import { META_RELATED_TASK, META_RELATED_TASKS } from './protocol.ts'

/** Binds and checks task ids. */
export interface TaskBinder {
  /** The id to hand to the client. Throws `upstream_failed` when the upstream's id is not 1..512 well-formed characters. */
  wrap(owner: Owner, upstreamId: string): string
  /** The upstream's own id; null when what was presented is forged, unknown or someone else's. */
  unwrap(owner: Owner, presented: string): string | null
}

const MAX_UPSTREAM_ID = 512

/** Makes a binder from a secret key of at least 32 bytes. */
export function createTaskBinder(key: Uint8Array): TaskBinder {
  // Up to 3 bytes of UTF-8 for a character, 4 characters of base64url for 3 bytes.
  const binder = createBinder('gwt1', key, MAX_UPSTREAM_ID * 4)
  return {
    wrap(owner, upstreamId) {
      if (upstreamId === '' || upstreamId.length > MAX_UPSTREAM_ID || !isWellFormed(upstreamId))
        throw new GatewayError('upstream_failed', { detail: 'the upstream issued an unusable task id' })
      return binder.wrap(owner, upstreamId)
    },
    unwrap: (owner, presented) => binder.unwrap(owner, presented)?.upstreamId ?? null,
  }
}

/**
 * The upstream's own id of a task that a message names; null when it is not the caller's. On the merged mount the bound id
 * stands behind the upstream's name, which stays where the call is given to an upstream by it (`isRouted`).
 */
export function ownTask(
  tasks: TaskBinder,
  owner: Owner,
  presented: string,
  isRouted: boolean,
): string | null {
  if (owner.mount !== MERGED) return tasks.unwrap(owner, presented)
  const owned = splitName(presented)
  if (owned === null) return null
  const upstreamId = tasks.unwrap({ ...owner, mount: owned.upstream }, owned.bare)
  return upstreamId === null || !isRouted ? upstreamId : `${namePrefix(owned.upstream)}${upstreamId}`
}

/**
 * The message with the upstream's own task ids; null when it names no task. `own` is told whether the message goes to an
 * upstream by the id.
 * @throws MessageRefusal `invalid_params` when a task is not the caller's
 */
export function withOwnTasks(
  text: string,
  envelope: DatedEnvelope,
  own: (id: string, isRouted: boolean) => string | null,
): string | null {
  const edits: SpanEdit[] = []
  for (const path of taskPaths(envelope)) {
    const span = findValue(text, path)
    if (span === null) continue
    const presented: unknown = JSON.parse(text.slice(span.start, span.end))
    const upstreamId = typeof presented === 'string' ? own(presented, path[1] !== '_meta') : null
    if (upstreamId === null) throw notFound(envelope)
    edits.push({ span, text: JSON.stringify(upstreamId) })
  }
  return edits.length === 0 ? null : replaceSpans(text, edits)
}

/** A message and the era it belongs to. */
type DatedEnvelope = Envelope & { readonly era: Era }

type Path = readonly (string | number)[]

/** Others are refused as unknown, whatever they name. */
const TASK_METHODS: Readonly<Record<Era, ReadonlySet<string>>> = {
  legacy: new Set(['tasks/get', 'tasks/result', 'tasks/cancel']),
  modern: new Set(['tasks/get', 'tasks/update', 'tasks/cancel']),
}

/** Most tasks that one message names. */
const MAX_TASKS = 1000

/** Where a message from the client names tasks of the upstream. */
function taskPaths(envelope: DatedEnvelope): readonly Path[] {
  const { kind, method, params } = envelope
  if (kind === 'response') return [['result', '_meta', META_RELATED_TASK, 'taskId']]
  const paths: Path[] = []
  if (TASK_METHODS[envelope.era].has(method) && 'taskId' in params) paths.push(['params', 'taskId'])
  const meta = params['_meta']
  if (isObject(meta)) {
    if (META_RELATED_TASK in meta) paths.push(['params', '_meta', META_RELATED_TASK, 'taskId'])
    paths.push(...elementPaths(envelope, meta[META_RELATED_TASKS], ['params', '_meta', META_RELATED_TASKS]))
  }
  const filter = params['notifications']
  if (method === 'subscriptions/listen' && isObject(filter))
    paths.push(...elementPaths(envelope, filter['taskIds'], ['params', 'notifications', 'taskIds']))
  return paths
}

function elementPaths(envelope: Envelope, list: unknown, path: Path): readonly Path[] {
  if (list === undefined) return []
  if (!Array.isArray(list) || list.length > MAX_TASKS) throw notFound(envelope)
  return list.map((_, index) => [...path, index])
}

/** Of a task that does not exist and of one of somebody else there is one thing to say. */
function notFound({ idText }: Envelope): MessageRefusal {
  return new MessageRefusal('invalid_params', {
    idText,
    message: 'Invalid params: task not found',
    detail: 'a task id that was not issued to this caller at this mount',
  })
}
