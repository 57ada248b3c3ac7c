/** A call that nobody has made, in the shape of a row, so that it is explained in the words of the audit log. Pure. */
import type { StoredRow } from './query.ts'

/** What is known of such a call. */
export type AskedFacts = Pick<
  StoredRow,
  | 'ts'
  | 'tenant'
  | 'principal_id'
  | 'principal_kind'
  | 'roles'
  | 'client_ip'
  | 'method'
  | 'server'
  | 'target_kind'
  | 'tool_name'
  | 'reason'
  | 'policy_revision'
>

/** Nothing happened, so whatever tells what happened is empty. */
export function toAskedRow(facts: AskedFacts): StoredRow {
  return {
    id: '',
    request_id: '',
    writer: '',
    seq: '0',
    leaf: null,
    role: null,
    api_key_id: null,
    client_name: null,
    client_version: null,
    protocol_version: null,
    session_hash: null,
    http_method: null,
    outcome: 'allowed',
    status_code: 0,
    error_message: null,
    latency_ms: 0,
    upstream_ms: null,
    request_json: null,
    response_json: null,
    decision: '{}',
    redaction: null,
    ...facts,
  }
}
