/** A row -> what its policy evaluation was asked, as far as the row still holds it. Pure. */
import { argumentsOf } from '../gateway/arguments.ts'
import { parseExact, stringifyExact } from '../json/exact.ts'
import { findValue, rootSpan } from '../json/span.ts'
import type { StoredRow } from './query.ts'

/** A recorded question. */
export interface RecordedQuestion {
  /** JSON text of a document of schemas/policy-input.schema.json. */
  readonly inputText: string
  /** Keyed digest (hex) of the exact bytes; null when the row has none. */
  readonly inputMac: string | null
  /** What the row does not hold as it was; empty = everything is there. */
  readonly losses: readonly string[]
  readonly decided: {
    readonly allow: boolean
    readonly allowedBy: readonly string[]
    readonly deniedBy: readonly string[]
    /** Kind of failure; null = there was a decision. */
    readonly failure: string | null
    readonly revision: string | null
    readonly digest: string | null
  }
}

/** null: no policy was asked, or the row does not hold what. */
export function toRecordedQuestion(row: StoredRow): RecordedQuestion | null {
  const decision = asObject(parseExact(row.decision))
  const authz = asObject(decision['authz'])
  const input = authz['input']
  if (typeof input !== 'object' || input === null) return null
  const { text, isLost } = argumentsOfRow(row)
  const head = stringifyExact(input)
  const policy = asObject(authz['policy'])
  return {
    inputText: text === null ? head : `${head.slice(0, -1)},"arguments":${text}}`,
    inputMac: textOf(authz['input_mac']),
    losses: [...(isLost ? ['the arguments are not in the row'] : []), ...lossesOf(row.redaction)],
    decided: {
      allow: authz['allow'] === true,
      allowedBy: textsOf(authz['allowed_by']),
      deniedBy: textsOf(authz['denied_by']),
      failure: textOf(asObject(authz['failure'])['kind']),
      revision: textOf(policy['revision']),
      digest: textOf(policy['digest']),
    },
  }
}

function argumentsOfRow(row: StoredRow): { readonly text: string | null; readonly isLost: boolean } {
  const { request_json: request, method, target_kind: kind } = row
  if (method === null || method === 'GET' || method === 'DELETE') return { text: null, isLost: false }
  // What a server asks of its client is no message of the client's, so it is not kept.
  if (request === null) return { text: null, isLost: kind === 'server_request' || kind !== 'server' }
  const params = findValue(request, ['params'], rootSpan(request)) ?? undefined
  const found = argumentsOf(method, request, params)
  return { text: found?.text ?? null, isLost: found === null }
}

/** Only what the policy has seen matters: the request and the input. */
function lossesOf(redaction: string | null): readonly string[] {
  if (redaction === null) return []
  const sections = asObject(JSON.parse(redaction))
  const failed = textsOf(sections['redaction_failed'])
  const by = asObject(sections['payload'])['by'] === 'configuration' ? 'the configuration' : 'the policy'
  return [
    ['request', 'the request'],
    ['input', 'the input'],
  ].flatMap(([section = '', name = '']) => {
    const note = asObject(sections[section])
    return [
      ...(note['redacted_count'] === undefined ? [] : [`secrets were replaced in ${name}`]),
      ...(note['cut_count'] === undefined ? [] : [`${name} was cut to size`]),
      ...(note['withheld'] === undefined ? [] : [`${name} was not kept, as ${by} asked`]),
      ...(failed.includes(section) ? [`${name} was left out, because it could not be made safe`] : []),
    ]
  })
}

function asObject(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : {}
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null
}

function textsOf(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((one): one is string => typeof one === 'string') : []
}
