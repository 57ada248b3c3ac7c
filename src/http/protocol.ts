/** The names of the MCP wire protocol that this gateway reads. Sources: MCP `schema/<revision>/schema.ts`. */
import { watchKeys } from '../json/scan.ts'

/**
 * Revisions with sessions, oldest first. The first of them has a transport of its own, but servers agree on it over this one
 * as well, and their clients then name it in every request.
 */
export const LEGACY_VERSIONS: readonly string[] = ['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25']

/** Revisions in which every request stands alone. */
export const MODERN_VERSIONS: readonly string[] = ['2026-07-28']

/** Every revision served, newest first; `data.supported` when a request without a claim is refused. */
export const SUPPORTED_VERSIONS: readonly string[] = [...LEGACY_VERSIONS, ...MODERN_VERSIONS].reverse()

/** What a request without `MCP-Protocol-Version` speaks (2025-06-18 `basic/transports`). */
export const ASSUMED_VERSION = '2025-03-26'

/** The one revision with JSON-RPC batches; they came with it and went with the next. */
export const BATCH_VERSION = '2025-03-26'

/** From this revision on, invalid tool arguments are a tool result with `isError` (SEP-1303). */
export const TOOL_ERROR_VERSION = '2025-11-25'

/** Keys of `params._meta` that make a request modern (2026-07-28 `basic/index`). */
export const META_VERSION = 'io.modelcontextprotocol/protocolVersion'
/** `_meta` key: what the client of a 2026-07-28 request can do. */
export const META_CAPABILITIES = 'io.modelcontextprotocol/clientCapabilities'
/** `_meta` key: what it says it is. */
export const META_CLIENT = 'io.modelcontextprotocol/clientInfo'

/** Keys of `_meta` that name tasks: one (2025-11-25), or several (the tasks extension). */
export const META_RELATED_TASK = 'io.modelcontextprotocol/related-task'
/** `_meta` key: tasks that a message belongs to. */
export const META_RELATED_TASKS = 'io.modelcontextprotocol/relatedTaskIds'

/** Request method -> the `params` member that the header `Mcp-Name` repeats (SEP-2243, SEP-2663). */
export const NAME_HEADER_SOURCE: ReadonlyMap<string, string> = new Map([
  ['tools/call', 'name'],
  ['prompts/get', 'name'],
  ['resources/read', 'uri'],
  ['tasks/get', 'taskId'],
  ['tasks/update', 'taskId'],
  ['tasks/cancel', 'taskId'],
])

const META_WATCH = watchKeys(
  [
    META_VERSION,
    META_CAPABILITIES,
    META_CLIENT,
    META_RELATED_TASK,
    META_RELATED_TASKS,
    'io.modelcontextprotocol/logLevel',
    'io.modelcontextprotocol/subscriptionId',
    'progressToken',
  ],
  { [META_RELATED_TASK]: watchKeys(['taskId']) },
)

const PARAMS_WATCH = watchKeys(
  [
    ...[
      '_meta',
      'argument',
      'arguments',
      'capabilities',
      'clientInfo',
      'context',
      'cursor',
      'inputResponses',
    ],
    ...[
      'level',
      'message',
      'name',
      'notifications',
      'progress',
      'progressToken',
      'protocolVersion',
      'reason',
    ],
    ...['ref', 'requestId', 'requestState', 'task', 'taskId', 'total', 'uri'],
  ],
  {
    _meta: META_WATCH,
    argument: watchKeys(['name', 'value']),
    clientInfo: watchKeys(['name', 'version']),
    notifications: watchKeys(['resourceSubscriptions', 'taskIds']),
    ref: watchKeys(['name', 'type', 'uri']),
  },
)

/**
 * Protocol keys whose look-alikes are refused: those of the envelope, of `params`, and of the objects in `params` that
 * the protocol defines. `params.arguments` belongs to the tool: its keys are its own.
 */
export const MESSAGE_WATCH = watchKeys(['error', 'id', 'jsonrpc', 'method', 'params', 'result'], {
  params: PARAMS_WATCH,
  result: watchKeys(['_meta'], { _meta: META_WATCH }),
})
