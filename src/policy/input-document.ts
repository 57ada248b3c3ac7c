/** A document of schemas/policy-input.schema.json -> a call that can be asked about. Every mistake is told with its path. */
import type { ErrorObject, ValidateFunction } from 'ajv'
import { Ajv } from 'ajv'
import type { Principal, Target } from '../gateway/types.ts'
import { JsonRefusal, scanText } from '../json/scan.ts'
import { findValue, sliceOf } from '../json/span.ts'
import { nearestName } from '../nearest-name.ts'
import type { CallFacts } from './asked-call.ts'
import type { JsonObject } from './build-data.ts'

/** What an input document asks. */
export interface InputQuestion {
  readonly phase: 'call' | 'list'
  /** Nanoseconds since the epoch. */
  readonly nowNs: bigint
  readonly facts: CallFacts
  /** Phase list: the elements in question. */
  readonly targets: readonly Target[]
}

/** One mistake. */
export interface InputProblem {
  /** Such as `principal.claims`; empty for the document as a whole. */
  readonly path: string
  readonly message: string
}

/** The document is no policy input. */
export class InputRefused extends Error {
  readonly problems: readonly InputProblem[]

  constructor(problems: readonly InputProblem[]) {
    super(problems.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`)).join('\n'))
    this.name = 'InputRefused'
    this.problems = problems
  }
}

const JSON_BOUNDS = { maxDepth: 64, maxKeys: 100_000 }

/** Compiling a schema takes longer than a hundred documents. */
const validators = new WeakMap<JsonObject, ValidateFunction>()

function validatorOf(schema: JsonObject): ValidateFunction {
  const known = validators.get(schema)
  if (known !== undefined) return known
  const made = new Ajv({ allErrors: true, strict: true, verbose: true }).compile(schema)
  validators.set(schema, made)
  return made
}

/**
 * Reads a document.
 * @throws InputRefused with everything that is wrong with it
 */
export function parseInputDocument(text: string, schema: JsonObject): InputQuestion {
  const input = parse(text)
  const validate = validatorOf(schema)
  if (!validate(input)) throw new InputRefused((validate.errors ?? []).map(toProblem))
  const document = input as unknown as Shape
  const nowNs = BigInt(numberText(text))
  const problems = contradictions(document, nowNs)
  if (problems.length > 0) throw new InputRefused(problems)
  const span = findValue(text, ['arguments'])
  return {
    phase: document.phase,
    nowNs,
    facts: toFacts(document, span === null ? null : sliceOf(text, span)),
    targets: (document.targets ?? []).map(toTarget),
  }
}

/** What the schema lets through. */
interface Shape {
  readonly phase: 'call' | 'list'
  readonly request: {
    readonly id: string
    readonly time: string
    readonly method: string
    readonly protocol_version?: string
    readonly ip?: string
    readonly session?: string
  }
  readonly principal: Omit<Principal, 'tenant' | 'authMethod' | 'apiKeyId'> & {
    readonly tenant?: string
    readonly auth_method: Principal['authMethod']
  }
  readonly server: CallFacts['server']
  readonly target?: TargetShape
  readonly targets?: readonly TargetShape[]
  readonly arguments?: unknown
  readonly client?: NonNullable<CallFacts['client']>
}

type TargetShape = Omit<Target, 'schemaDigest'> & { readonly schema_digest?: string }

function parse(text: string): Readonly<Record<string, unknown>> {
  try {
    scanText(text, JSON_BOUNDS)
  } catch (error) {
    if (!(error instanceof JsonRefusal)) throw error
    throw new InputRefused([{ path: '', message: `not JSON: ${error.message}` }])
  }
  const value: unknown = JSON.parse(text)
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Readonly<Record<string, unknown>>
  throw new InputRefused([{ path: '', message: 'a policy input is an object' }])
}

function toProblem(error: ErrorObject): InputProblem {
  const path = error.instancePath.slice(1).replaceAll('/', '.')
  if (error.keyword === 'additionalProperties') {
    const name = String(error.params['additionalProperty'])
    const known = Object.keys((error.parentSchema?.['properties'] ?? {}) as object)
    const near = nearestName(name, known)
    const hint = near === null ? `known: ${known.join(', ')}` : `did you mean ${near}?`
    return { path: path === '' ? name : `${path}.${name}`, message: `unknown field; ${hint}` }
  }
  if (error.keyword === 'required') {
    const name = String(error.params['missingProperty'])
    return { path: path === '' ? name : `${path}.${name}`, message: 'is missing' }
  }
  if (error.keyword === 'enum') {
    const words = (error.params['allowedValues'] as unknown[]).map(String)
    return { path, message: `must be one of: ${words.join(', ')}` }
  }
  return { path, message: error.message ?? 'is not valid' }
}

/** The exact digits of `request.now_ns`. */
function numberText(text: string): string {
  const span = findValue(text, ['request', 'now_ns'])
  const digits = span === null ? '' : sliceOf(text, span)
  if (/^-?\d{1,30}$/.test(digits)) return digits
  throw new InputRefused([{ path: 'request.now_ns', message: 'must be written as plain digits' }])
}

/** What no call of the gateway could ask. */
function contradictions(document: Shape, nowNs: bigint): readonly InputProblem[] {
  const problems: InputProblem[] = []
  const ms = Number(nowNs / 1_000_000n)
  const time = Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : null
  if (time === null || Date.parse(document.request.time) !== ms)
    problems.push({
      path: 'request.time',
      message: `must be the time of now_ns, ${time ?? 'which is no date'}`,
    })
  const { phase, target, targets } = document
  if (phase === 'call' && target === undefined)
    problems.push({ path: 'target', message: 'is missing in phase call' })
  if (phase === 'call' && targets !== undefined)
    problems.push({ path: 'targets', message: 'belong to phase list' })
  if (phase === 'list' && (targets ?? []).length === 0)
    problems.push({ path: 'targets', message: 'are missing in phase list' })
  if (phase === 'list' && target !== undefined)
    problems.push({ path: 'target', message: 'belongs to phase call' })
  if (phase === 'list' && document.arguments !== undefined)
    problems.push({ path: 'arguments', message: 'belong to phase call: a list has none' })
  return problems
}

function toFacts(document: Shape, argumentsText: string | null): CallFacts {
  const { request, principal, server, target, client } = document
  const { id, kind, roles, teams, scopes, claims } = principal
  return {
    request: {
      id: request.id,
      method: request.method,
      protocolVersion: request.protocol_version ?? null,
      ip: request.ip ?? null,
      session: request.session ?? null,
    },
    principal: {
      ...{ id, kind, roles, teams, scopes, claims },
      tenant: principal.tenant ?? null,
      authMethod: principal.auth_method,
      apiKeyId: null,
    },
    server: { name: server.name, labels: server.labels },
    target: target === undefined ? null : toTarget(target),
    argumentsText,
    client: client === undefined ? null : { name: client.name, version: client.version },
  }
}

function toTarget({ kind, name, annotations, schema_digest: digest }: TargetShape): Target {
  return { kind, name, annotations, schemaDigest: digest ?? null }
}
