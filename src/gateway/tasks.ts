/**
 * Tasks belong to whoever started them. An id of a task leaves bound to its owner (see `Rooms.http.bindTask`) and comes back
 * unbound by the reader, so nobody else can name it. Bound is what the caller has just started or has just named itself, and
 * what this process remembers as the caller's; any other id is not shown, or leaves as a text that opens nothing.
 */

import { LRUCache } from 'lru-cache'
import { asObject } from '../json/object.ts'
import type { SpanEdit } from '../json/span.ts'
import { findValue, replaceSpans, sliceOf } from '../json/span.ts'
import type { Rooms } from './call.ts'
import type { Call } from './types.ts'

type Members = Readonly<Record<string, unknown>>

/** Who started which task, and what that means for what upstreams say of tasks. */
export interface TaskBook {
  /** Where the result of a call names tasks, the text with bound ids. The text is one that was scanned strictly. */
  inAnswer(call: Call, text: string, result: Members): string
  /** Whether {@link inAnswer} would have something to do. */
  concerns(call: Call, result: Members): boolean
  /** The same for a request or notification on a stream; null when it tells of a task that is not the caller's. */
  inEvent(call: Call, text: string, parsed: Members): string | null
  /** One element of a list of tasks, with a bound id; null when it is not the caller's. */
  inList(call: Call, element: string): string | null
}

/** Remembered for lists and notifications; older ones can still be named by who holds their id. */
const MAX_TASKS = 100_000

/** `_meta` key of a message that belongs to a task (2025-11-25 `basic/utilities/tasks`). */
const RELATED = 'io.modelcontextprotocol/related-task'

type Path = readonly (string | number)[]

/** Remembers tasks whose start was relayed, the latest ones. */
export function createTaskBook(rooms: { readonly http: Pick<Rooms['http'], 'bindTask'> }): TaskBook {
  const owners = new LRUCache<string, string>({ max: MAX_TASKS })

  function isOwn(call: Call, taskId: string): boolean {
    return namedTasks(call).has(taskId) || owners.get(taskKey(call, taskId)) === ownerKey(call)
  }

  /** A subscription tells of what it was let ask for. */
  function isToldOf(call: Call, taskId: string): boolean {
    const isSubscription = call.message?.method === 'subscriptions/listen'
    return isSubscription ? namedTasks(call).has(taskId) : isOwn(call, taskId)
  }

  /** The edit that binds the id at `path`; null when there is none, or it is not the caller's. */
  function bound(call: Call, text: string, path: Path): SpanEdit | null {
    const span = findValue(text, path)
    const taskId: unknown = span === null ? null : JSON.parse(sliceOf(text, span))
    if (span === null || typeof taskId !== 'string' || !isOwn(call, taskId)) return null
    return { span, text: JSON.stringify(rooms.http.bindTask(call, taskId)) }
  }

  function bindAt(call: Call, text: string, paths: readonly Path[]): string {
    const edits = paths.flatMap((path) => bound(call, text, path) ?? [])
    return edits.length === 0 ? text : replaceSpans(text, edits)
  }

  return {
    concerns: (call, result) => answerPaths(call, result).length > 0,

    inAnswer(call, text, result) {
      const started = startedTask(call, result)
      if (started !== null) owners.set(taskKey(call, started), ownerKey(call))
      return bindAt(call, text, answerPaths(call, result))
    },

    inEvent(call, text, parsed) {
      const params = asObject(parsed['params']) ?? {}
      const { taskId } = params
      const isStatus = STATUS.has(String(parsed['method']))
      if (isStatus && !(typeof taskId === 'string' && isToldOf(call, taskId))) return null
      return bindAt(call, text, eventPaths(params, isStatus))
    },

    inList(call, element) {
      const edit = bound(call, element, ['taskId'])
      return edit === null ? null : replaceSpans(element, [edit])
    },
  }
}

/** What tells that a task has changed: 2025-11-25, and the tasks extension. */
const STATUS: ReadonlySet<string> = new Set(['notifications/tasks/status', 'notifications/tasks'])

function eventPaths(params: Members, isStatus: boolean): readonly Path[] {
  const paths: Path[] = []
  if (asObject(params['_meta'])?.[RELATED] !== undefined) paths.push(['params', '_meta', RELATED, 'taskId'])
  if (isStatus) paths.push(['params', 'taskId'])
  // The acknowledgement of a subscription repeats what it was asked for.
  const listed = asObject(params['notifications'])?.['taskIds']
  if (Array.isArray(listed))
    paths.push(...listed.map((_, index) => ['params', 'notifications', 'taskIds', index]))
  return paths
}

function answerPaths(call: Call, result: Members): readonly Path[] {
  const paths: Path[] = []
  if (asObject(result['_meta'])?.[RELATED] !== undefined) paths.push(['result', '_meta', RELATED, 'taskId'])
  const created = creation(call, result)
  if (created !== null) paths.push(created)
  else if (call.message?.method.startsWith('tasks/') === true && 'taskId' in result)
    paths.push(['result', 'taskId'])
  return paths
}

/** A 2025-11-25 client asks for a task, and finds it in `task`; in the extension the server decides, and says so. */
function creation({ message }: Call, result: Members): Path | null {
  if (message?.era === 'modern') return result['resultType'] === 'task' ? ['result', 'taskId'] : null
  const isAsked = asObject(message?.params['task']) !== null
  return isAsked && asObject(result['task']) !== null ? ['result', 'task', 'taskId'] : null
}

function startedTask(call: Call, result: Members): string | null {
  const path = creation(call, result)
  const holder = path?.length === 3 ? asObject(result['task']) : result
  const taskId = path === null ? null : holder?.['taskId']
  return typeof taskId === 'string' ? taskId : null
}

/** The tasks that a message names were the caller's when it was read. */
function namedTasks({ message }: Call): ReadonlySet<unknown> {
  const { method = '', params = {} } = message ?? {}
  if (method.startsWith('tasks/')) return new Set([params['taskId']])
  const listed = method === 'subscriptions/listen' ? asObject(params['notifications'])?.['taskIds'] : null
  return new Set(Array.isArray(listed) ? listed : [])
}

function taskKey({ head }: Call, taskId: string): string {
  return JSON.stringify([head.mount, taskId])
}

function ownerKey({ principal }: Call): string {
  return JSON.stringify([principal?.tenant, principal?.id])
}
