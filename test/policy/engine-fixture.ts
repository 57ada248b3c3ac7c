/** Policies for the engine's tests, built by the real compiler. One compiler process per test run, ended by `closeFixture`. */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import type { Call, Evaluation, Target } from '../../src/gateway/types.ts'
import { toStoredText } from '../../src/json/stored-text.ts'
import type { CompiledPolicy } from '../../src/policy/build.ts'
import { buildPolicy, loadInputSchema, toBuildRequest } from '../../src/policy/build.ts'
import type { JsonObject } from '../../src/policy/build-data.ts'
import type { Compiler } from '../../src/policy/compiler.ts'
import { createCompiler } from '../../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../../src/policy/compiler-artifact.ts'
import type { PolicyLimits, PolicyRoom } from '../../src/policy/engine.ts'
import { createPolicyRoom } from '../../src/policy/engine.ts'
import { callAt, toolsCallWith } from '../support/call.ts'

const CACHE = join(tmpdir(), `mcp-policy-gateway-test-${process.getuid?.() ?? 0}`)
let compiler: Compiler | null = null

/** The shared compiler. */
export async function fixtureCompiler(): Promise<Compiler> {
  compiler ??= createCompiler({ artifact: await loadCompilerArtifact(CACHE), idleMs: 2000 })
  return compiler
}

/** Builds `authz/policy.rego` (and other files) with the product's own module. `body` gets its package line. */
export async function buildFixture(
  body: string,
  data: JsonObject = {},
  files: Readonly<Record<string, string>> = {},
): Promise<CompiledPolicy> {
  const rego = { 'authz/policy.rego': `package gateway.authz\n\n${body}`, ...files }
  return buildPolicy(
    { rego, data },
    {
      compiler: await fixtureCompiler(),
      cacheDir: join(CACHE, 'builds'),
    },
  )
}

/** The same policy as OPA's compiler makes it: not metered, and instrumented only when asked for. */
export async function buildUnmetered(body: string, instrument: boolean): Promise<Uint8Array> {
  const rego = { 'authz/policy.rego': `package gateway.authz\n\n${body}` }
  const request = toBuildRequest({ rego, data: {} }, await loadInputSchema())
  const result = await (await fixtureCompiler()).build({ ...request, instrument })
  if (!result.ok) throw new Error(JSON.stringify(result.errors))
  return result.wasm
}

/** A room on such a policy. */
export async function roomOn(
  policy: CompiledPolicy,
  limits: Partial<PolicyLimits> = {},
  now: () => bigint = () => 1_700_000_000_123_456_789n,
): Promise<PolicyRoom> {
  return createPolicyRoom({
    policy,
    inputMacKey: Buffer.from('key of the tests'),
    now,
    monotonicMs: () => performance.now(),
    limits,
    log: {
      warn() {},
      error: (fields) => {
        throw new Error(`unexpected: ${JSON.stringify(fields)}`)
      },
    },
  })
}

/** What a call of the tests may differ in. */
export interface CallParts {
  readonly argumentsText?: string | null
  readonly target?: Partial<Target>
  readonly principal?: Partial<NonNullable<Call['principal']>>
  readonly server?: Partial<NonNullable<Call['server']>>
}

/** A `tools/call` that has passed `read`. */
export function callOf(parts: CallParts = {}): Call {
  return callAt('files', {
    id: '0190a000-0000-7000-8000-000000000001',
    requestId: '0190a000-0000-7000-8000-000000000001',
    startedMs: 1_700_000_000_123,
    startedAt: 0,
    stage: 'authz',
    clientIp: '192.0.2.7',
    principal: {
      id: 'alice',
      kind: 'user',
      roles: ['developer'],
      tenant: 'acme',
      teams: [],
      scopes: [],
      claims: {},
      authMethod: 'api_key',
      apiKeyId: 'k1',
      ...parts.principal,
    },
    server: { name: 'files', labels: { env: 'test' }, ...parts.server },
    message: toolsCallWith({
      ...{ era: 'modern', protocolVersion: '2026-07-28', client: { name: 'tests', version: '1' } },
      argumentsText: parts.argumentsText === undefined ? '{}' : parts.argumentsText,
    }),
    target: { kind: 'tool', name: 'read_file', annotations: {}, schemaDigest: null, ...parts.target },
  })
}

/** The parsed trace of an evaluation. */
export interface TraceView {
  readonly v: number
  readonly truncated: boolean
  readonly dropped: number
  readonly rules: readonly RuleView[]
}
export interface RuleView {
  readonly rule: string
  readonly at: string
  readonly title?: string
  readonly outcome: 'defined' | 'undefined' | 'aborted'
  readonly args?: Readonly<Record<string, unknown>>
  readonly value?: unknown
  readonly steps: readonly StepView[]
  readonly rules?: readonly RuleView[]
}
export interface StepView {
  readonly at: string
  readonly expr: string
  readonly ok: boolean
  readonly aborted?: boolean
  readonly vars: Readonly<Record<string, unknown>>
  readonly reads?: Readonly<Record<string, unknown>>
  readonly missing?: readonly string[]
  readonly steps?: readonly StepView[]
  readonly rules?: readonly RuleView[]
}

export function traceOf(evaluation: Evaluation): TraceView {
  const text = evaluation.traceText()
  expect(text).to.equal(toStoredText(text))
  return JSON.parse(text) as TraceView
}

/** A trace as indented lines, for comparing whole traces. */
export function outline(rules: readonly RuleView[], indent = ''): readonly string[] {
  return rules.flatMap((rule) => [
    `${indent}${rule.rule.replace('data.gateway.authz.', '')}${members('(', rule.args, ')')} ${rule.outcome}${rule.value === undefined ? '' : ` ${JSON.stringify(rule.value)}`}`,
    ...outlineSteps(rule.steps, `${indent}  `),
    ...outline(rule.rules ?? [], `${indent}  `),
  ])
}

function outlineSteps(steps: readonly StepView[], indent: string): readonly string[] {
  return steps.flatMap((step) => [
    `${indent}${step.aborted === true ? 'ABORT' : step.ok ? 'ok' : 'FAIL'} ${step.expr}${members(' ', step.vars)}${members(' reads ', step.reads)}${step.missing === undefined ? '' : ` missing ${step.missing.join(' ')}`}`,
    ...outlineSteps(step.steps ?? [], `${indent}  . `),
    ...outline(step.rules ?? [], `${indent}  > `),
  ])
}

function members(before: string, values: Readonly<Record<string, unknown>> | undefined, after = ''): string {
  const list = Object.entries(values ?? {}).map(([name, value]) => `${name}=${JSON.stringify(value)}`)
  return list.length === 0 ? '' : `${before}${list.join(' ')}${after}`
}

/** Ends the compiler. */
export async function closeFixture(): Promise<void> {
  await compiler?.close()
  compiler = null
}
