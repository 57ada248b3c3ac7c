/** A row as an event of OCSF 1.9, class API Activity (6003). Pure. https://schema.ocsf.io/1.9.0/classes/api_activity */
import type { Outcome } from '../errors.ts'
import { parseExact, stringifyExact } from '../json/exact.ts'
import { VERSION } from '../version.ts'
import { factsOf } from './facts.ts'
import type { StoredRow } from './query.ts'
import type { DecisionFacts } from './sentence.ts'
import { sentenceOf } from './sentence.ts'

const SCHEMA_VERSION = '1.9.0'
const CLASS_UID = 6003
const PRODUCT = { name: 'mcp-policy-gateway', vendor_name: 'mcp-policy-gateway', version: VERSION }

/** The event on one line. Numbers in payloads and decision keep their digits. */
export function toOcsf(row: StoredRow): string {
  const facts = factsOf(row)
  const activity = activityOf(row)
  const how = MEANINGS[row.outcome]
  return stringifyExact(
    compact({
      ...activity,
      category_uid: 6,
      category_name: 'Application Activity',
      class_uid: CLASS_UID,
      class_name: 'API Activity',
      type_uid: CLASS_UID * 100 + activity.activity_id,
      type_name: `API Activity: ${ACTIVITIES[activity.activity_id]}`,
      time: row.ts.getTime(),
      ...times(row),
      ...SEVERITIES[how.severity],
      ...statusOf(row, facts),
      ...ACTIONS[how.action],
      ...DISPOSITIONS[how.disposition],
      message: sentenceOf(row, facts),
      metadata: metadataOf(row, facts),
      actor: actorOf(row),
      ai_agent: agentOf(row),
      api: apiOf(row),
      src_endpoint: row.client_ip === null ? { name: 'unknown' } : { ip: row.client_ip },
      dst_endpoint: row.server === null ? null : { name: row.server, svc_name: row.server },
      http_request: httpRequestOf(row),
      http_response: httpResponseOf(row),
      resources: resourcesOf(row),
      ...policyOf(facts),
      attestation_list: attestationsOf(row),
      enrichments: [
        { name: 'decision', value: row.outcome, type: 'policy decision', data: parseExact(row.decision) },
      ],
    }),
  )
}

type Members = Readonly<Record<string, unknown>>

/** Without members that have no value: OCSF has no null. */
function compact(members: Members): Members {
  return Object.fromEntries(
    Object.entries(members).filter(([, value]) => value !== null && value !== undefined),
  )
}

const ACTIVITIES: Readonly<Record<number, string>> = { 0: 'Unknown', 2: 'Read', 99: 'Other' }
const READS: ReadonlySet<string> = new Set(['resources/read', 'prompts/get', 'ping', 'GET'])

/** What a tool does only its upstream knows, so its call is of no kind that OCSF has a number for. */
function activityOf({ method }: StoredRow): { readonly activity_id: number; readonly activity_name: string } {
  if (method === null) return { activity_id: 0, activity_name: 'Unknown' }
  if (READS.has(method) || method.endsWith('/list')) return { activity_id: 2, activity_name: 'Read' }
  return { activity_id: 99, activity_name: method }
}

function times({ ts, latency_ms: latency }: StoredRow) {
  const start = ts.getTime()
  const duration = Math.max(0, Math.round(latency))
  return { start_time: start, end_time: start + duration, duration, timezone_offset: 0 }
}

interface Meaning {
  readonly severity: keyof typeof SEVERITIES
  readonly action: keyof typeof ACTIONS
  readonly disposition: keyof typeof DISPOSITIONS
}

const SEVERITIES = {
  informational: { severity_id: 1, severity: 'Informational' },
  low: { severity_id: 2, severity: 'Low' },
  medium: { severity_id: 3, severity: 'Medium' },
  high: { severity_id: 4, severity: 'High' },
} as const
const ACTIONS = {
  unknown: { action_id: 0, action: 'Unknown' },
  allowed: { action_id: 1, action: 'Allowed' },
  denied: { action_id: 2, action: 'Denied' },
} as const
const DISPOSITIONS = {
  unknown: { disposition_id: 0, disposition: 'Unknown' },
  allowed: { disposition_id: 1, disposition: 'Allowed' },
  blocked: { disposition_id: 2, disposition: 'Blocked' },
  rejected: { disposition_id: 25, disposition: 'Rejected' },
  unauthorized: { disposition_id: 26, disposition: 'Unauthorized' },
  error: { disposition_id: 27, disposition: 'Error' },
} as const

const MEANINGS: Readonly<Record<Outcome, Meaning>> = {
  allowed: { severity: 'informational', action: 'allowed', disposition: 'allowed' },
  denied_admit: { severity: 'medium', action: 'denied', disposition: 'rejected' },
  denied_auth: { severity: 'medium', action: 'denied', disposition: 'unauthorized' },
  denied_authz: { severity: 'medium', action: 'denied', disposition: 'blocked' },
  killed: { severity: 'medium', action: 'denied', disposition: 'blocked' },
  rate_limited: { severity: 'low', action: 'denied', disposition: 'rejected' },
  invalid: { severity: 'low', action: 'denied', disposition: 'rejected' },
  overloaded: { severity: 'low', action: 'denied', disposition: 'rejected' },
  unavailable: { severity: 'high', action: 'denied', disposition: 'error' },
  upstream_error: { severity: 'low', action: 'allowed', disposition: 'error' },
  upstream_timeout: { severity: 'low', action: 'allowed', disposition: 'error' },
  client_closed: { severity: 'informational', action: 'unknown', disposition: 'unknown' },
  interrupted: { severity: 'high', action: 'unknown', disposition: 'unknown' },
  internal_error: { severity: 'high', action: 'unknown', disposition: 'error' },
  gap: { severity: 'high', action: 'unknown', disposition: 'unknown' },
}

const UNCERTAIN: ReadonlySet<Outcome> = new Set(['client_closed', 'interrupted', 'gap'])

/** Of the call as a whole: what the upstream reported as an error has failed. */
function statusOf(row: StoredRow, { upstream }: DecisionFacts): Members {
  const detail = [row.reason, row.error_message].filter((text) => text !== null).join(': ')
  const rest = { status_code: String(row.status_code), ...(detail === '' ? {} : { status_detail: detail }) }
  if (UNCERTAIN.has(row.outcome)) return { status_id: 0, status: 'Unknown', ...rest }
  const isError = upstream?.tool_is_error === true || typeof upstream?.json_rpc_error === 'number'
  return row.outcome === 'allowed' && !isError
    ? { status_id: 1, status: 'Success', ...rest }
    : { status_id: 2, status: 'Failure', ...rest }
}

function metadataOf(row: StoredRow, { authz }: DecisionFacts): Members {
  const { truncated } = (authz?.trace ?? {}) as { truncated?: unknown }
  return compact({
    version: SCHEMA_VERSION,
    product: PRODUCT,
    profiles: [
      'security_control',
      ...(row.leaf === null ? [] : ['record_integrity']),
      ...(row.principal_kind === 'agent' ? ['ai_operation'] : []),
    ],
    uid: row.id,
    correlation_uid: row.request_id,
    event_code: row.outcome,
    log_name: 'audit_events',
    original_time: row.ts.toISOString(),
    sequence: Number(row.seq),
    tenant_uid: row.tenant,
    is_truncated: truncated === true || row.redaction?.includes('"cut_count"') === true ? true : null,
  })
}

const USER_TYPES: Readonly<Record<string, Members>> = {
  user: { type_id: 1, type: 'User' },
  service: { type_id: 4, type: 'Service' },
}

function actorOf(row: StoredRow): Members {
  const { principal_id: uid, principal_kind: kind, roles } = row
  const type = USER_TYPES[kind ?? ''] ?? { type_id: 99, type: kind ?? 'unknown' }
  const groups = (roles ?? []).map((name) => ({ name, type: 'role' }))
  return compact({
    user:
      uid === null
        ? { name: 'unknown', type_id: 0, type: 'Unknown' }
        : compact({
            ...{ uid, name: uid, ...type, credential_uid: row.api_key_id },
            groups: groups.length === 0 ? null : groups,
          }),
    session: row.session_hash === null ? null : { uid: row.session_hash },
    app_name: row.client_name,
  })
}

function agentOf({ principal_id: uid, principal_kind: kind }: StoredRow): Members | null {
  return kind === 'agent' && uid !== null ? { uid, name: uid, type_id: 0 } : null
}

function apiOf(row: StoredRow): Members {
  const { request_json: request, response_json: response } = row
  return compact({
    operation: row.method ?? 'unknown',
    version: row.protocol_version,
    service: row.server === null ? null : { name: row.server },
    request: compact({ uid: row.request_id, data: request === null ? null : parseExact(request) }),
    response: compact({
      code: row.status_code,
      error: row.reason,
      error_message: row.error_message,
      data: response === null ? null : parseExact(response),
    }),
  })
}

/** Those that OCSF has words for and HTTP names; a caller may send anything. */
const HTTP_METHODS: ReadonlySet<string> = new Set([
  ...['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'],
])

function httpRequestOf({ http_method: method, request_id: uid }: StoredRow): Members | null {
  return method !== null && HTTP_METHODS.has(method) ? { http_method: method, uid } : null
}

function httpResponseOf({ status_code: code, latency_ms: latency }: StoredRow): Members | null {
  return code === 0 ? null : { code, latency: Math.max(0, Math.round(latency)) }
}

function resourcesOf({ tool_name: name, target_kind: type, server }: StoredRow): readonly Members[] | null {
  if (name === null) return null
  return [compact({ name, uid: name, type, namespace: server, role_id: 1, role: 'Target' })]
}

/** The policy that decided, and its word; nothing when it was not asked. */
function policyOf({ authz }: DecisionFacts): Members {
  const { revision, digest } = authz?.policy ?? {}
  if (revision === undefined && digest === undefined) return {}
  const reasons = [...(authz?.allowed_by ?? []), ...(authz?.denied_by ?? [])]
  const policy = compact({
    name: 'data.gateway.decision',
    uid: digest,
    version: revision,
    is_applied: true,
    desc: reasons.length === 0 ? null : reasons.join(', '),
  })
  return { policy, authorizations: [{ decision: authz?.allow === true ? 'allowed' : 'denied', policy }] }
}

/** The row's link in the chain of its writer: over the stored row, not over this event. `gateway audit verify` checks it. */
function attestationsOf({ id, writer, leaf }: StoredRow): readonly Members[] | null {
  if (leaf === null) return null
  return [
    {
      uid: id,
      chain_uid: writer,
      fingerprint: {
        algorithm_id: 3,
        algorithm: 'SHA-256',
        encoding_id: 1,
        encoding: 'Hex',
        serialization_id: 99,
        serialization: 'mcp-policy-gateway audit row',
        value: leaf,
      },
    },
  ]
}
