/** Attempts as the spine hands them to the audit room, with every detail settable. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { AuditRoomOptions } from '../../src/audit/limits.ts'
import type { EndingKind } from '../../src/errors.ts'
import { ENDINGS, GatewayError } from '../../src/errors.ts'
import { createRowIds } from '../../src/gateway/row-id.ts'
import type { AuditEvent, Call, Ending, Evaluation, Message, Principal } from '../../src/gateway/types.ts'
import { toStoredText } from '../../src/json/stored-text.ts'
import { callAt } from '../support/call.ts'

export const NOW_MS = Date.UTC(2026, 10, 21, 10, 0, 0, 123)
export const newId = createRowIds()

export const ANNA: Principal = {
  id: 'anna',
  kind: 'user',
  roles: ['developer', 'oncall'],
  tenant: 'acme',
  teams: ['core'],
  scopes: [],
  claims: {},
  authMethod: 'api_key',
  apiKeyId: 'k3v9x2m4q8p1',
}

/** The denial of a destructive tool, as the engine traces it. */
export const DENY_TRACE = {
  v: 1,
  truncated: false,
  dropped: 0,
  rules: [
    {
      rule: 'data.gateway.authz.allow',
      at: 'authz/tools.rego:12',
      outcome: 'defined',
      value: ['developers-may-call'],
      steps: [{ at: 'authz/tools.rego:13', expr: 'has_role("developer")', ok: true, vars: {} }],
    },
    {
      rule: 'data.gateway.authz.deny',
      at: 'authz/tools.rego:24',
      title: 'Destructive tools need a second factor',
      outcome: 'defined',
      value: ['destructive-without-mfa'],
      steps: [
        {
          at: 'authz/tools.rego:25',
          expr: 'input.target.annotations.destructiveHint == true',
          ok: true,
          vars: {},
        },
        {
          at: 'authz/tools.rego:26',
          expr: 'not input.principal.claims.mfa',
          ok: true,
          vars: {},
          reads: {},
          missing: ['input.principal.claims.mfa'],
        },
      ],
    },
    {
      rule: 'data.gateway.authz.deny',
      at: 'authz/tools.rego:30',
      outcome: 'undefined',
      steps: [
        {
          at: 'authz/tools.rego:31',
          expr: 'input.server.labels.env == "prod"',
          ok: false,
          vars: {},
          reads: { 'input.server.labels.env': 'test' },
        },
      ],
    },
  ],
}

/** Nothing allowed: two `allow` rules, of which one came further. */
export const NO_ALLOW_TRACE = {
  v: 1,
  truncated: false,
  dropped: 0,
  rules: [
    {
      rule: 'data.gateway.authz.allow',
      at: 'authz/tools.rego:5',
      outcome: 'undefined',
      steps: [
        {
          at: 'authz/tools.rego:6',
          expr: '"admin" in input.principal.roles',
          ok: false,
          vars: {},
          reads: { 'input.principal.roles': ['readonly'] },
        },
      ],
    },
    {
      rule: 'data.gateway.authz.allow',
      at: 'authz/tools.rego:12',
      outcome: 'undefined',
      steps: [
        {
          at: 'authz/tools.rego:13',
          expr: 'some role in input.principal.roles',
          ok: true,
          vars: { role: 'readonly' },
        },
        {
          at: 'authz/tools.rego:14',
          expr: 'permits(role, input.target)',
          ok: false,
          vars: {},
          reads: { role: 'readonly', 'input.target': { kind: 'tool', name: 'delete_repo' } },
          rules: [
            {
              rule: 'data.gateway.authz.permits',
              at: 'authz/tools.rego:40',
              outcome: 'undefined',
              args: { role: 'readonly', target: { kind: 'tool', name: 'delete_repo' } },
              steps: [
                {
                  at: 'authz/tools.rego:41',
                  expr: 'target.annotations.readOnlyHint == true',
                  ok: false,
                  vars: {},
                  reads: {},
                  missing: ['target.annotations.readOnlyHint'],
                },
              ],
            },
          ],
        },
      ],
    },
  ],
}

/** The trace dictionary of the policy behind the traces above, as far as `explain` reads it. */
export const DICTIONARY = {
  v: 1,
  rules: [
    { id: 1, kind: 'rule', path: 'data.gateway.authz.deny', file: 'authz/tools.rego', row: 30, body: [2, 3] },
    { id: 4, kind: 'rule', path: 'data.gateway.authz.allow', file: 'authz/tools.rego', row: 5, body: [5, 6] },
  ],
  exprs: [
    { id: 2, file: 'authz/tools.rego', row: 31, text: 'input.server.labels.env == "prod"', begin: false },
    { id: 3, file: 'authz/tools.rego', row: 32, text: 'data.freeze.active', begin: false },
    { id: 5, file: 'authz/tools.rego', row: 6, text: '"admin" in input.principal.roles', begin: false },
    {
      id: 6,
      file: 'authz/tools.rego',
      row: 7,
      text: 'input.server.labels.env in data.open_envs',
      begin: false,
    },
  ],
}

export function evaluation(changes: Partial<Evaluation> & { readonly trace?: unknown } = {}): Evaluation {
  const { trace = DENY_TRACE, ...rest } = changes
  return {
    allow: false,
    allowedBy: ['developers-may-call'],
    deniedBy: ['destructive-without-mfa'],
    limits: [],
    obligations: [],
    masks: [],
    maskFailure: null,
    failure: null,
    policy: {
      revision: '3f9c2a1b5d7e',
      digest: `sha256:${'8d'.repeat(32)}`,
      opa: '1.22.0',
      entrypoint: 'gateway/decision',
    },
    nowNs: '1795255200123000000',
    evalUs: 84.25,
    fuel: 1_180_432,
    inputText: JSON.stringify({
      phase: 'call',
      request: { id: 'x', method: 'tools/call', ip: '10.1.2.3' },
      principal: { id: 'anna', roles: ['developer'], claims: {} },
      server: { name: 'github', labels: { env: 'test' } },
      target: { kind: 'tool', name: 'delete_repo', annotations: { destructiveHint: true } },
    }),
    inputMac: 'ab'.repeat(32),
    traceText: () => toStoredText(typeof trace === 'string' ? trace : JSON.stringify(trace)),
    traceParts: () => ({ values: typeof trace === 'string' ? trace : JSON.stringify(trace), words: '' }),
    traceDictionary: {},
    ...rest,
  }
}

export function message(body: string, changes: Partial<Message> = {}): Message {
  return {
    kind: 'request',
    era: 'modern',
    protocolVersion: '2026-07-28',
    method: 'tools/call',
    idText: '7',
    params: {},
    argumentsText: null,
    body: Buffer.from(body),
    session: null,
    client: { name: 'inspector', version: '2.0.1' },
    ...changes,
  }
}

export function toolsCall(args: string, name = 'delete_repo'): Message {
  const body = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":${JSON.stringify(name)},"arguments":${args}}}`
  return message(body, { argumentsText: args, params: { name } })
}

export function call(changes: Partial<Call> = {}): Call {
  const startedMs = changes.startedMs ?? NOW_MS
  const id = newId(startedMs)
  return callAt('github', {
    id,
    requestId: id,
    startedMs,
    startedAt: 1000,
    head: { httpMethod: 'POST', mount: 'github', rawHeaders: [], headers: {}, peer: '10.1.2.3' },
    stage: 'authz',
    clientIp: '10.1.2.3',
    principal: ANNA,
    server: { name: 'github', labels: { env: 'test' } },
    message: toolsCall('{"owner":"acme","repo":"site"}'),
    target: { kind: 'tool', name: 'delete_repo', annotations: { destructiveHint: true }, schemaDigest: null },
    timingsUs: { admit: 12, auth: 40, read: 210, authz: 160 },
    ...changes,
  })
}

/** The end of a refused attempt, with the answer the caller got. */
export function refused(kind: EndingKind, detail?: string, cause?: unknown): Ending {
  const { code, message: text, outcome, status } = ENDINGS[kind]
  const error = new GatewayError(kind, {
    ...(detail === undefined ? {} : { detail }),
    ...(cause === undefined ? {} : { cause }),
  })
  const response = { jsonrpc: '2.0', id: 7, error: { code, message: text, data: { requestId: 'r' } } }
  return {
    outcome,
    status,
    kind,
    error,
    response: kind === 'client_closed' ? null : Buffer.from(JSON.stringify(response)),
    latencyMs: 3.25,
  }
}

/** The end of a relayed answer. */
export function answered(response: string): Ending {
  return {
    outcome: 'allowed',
    status: 200,
    kind: null,
    error: null,
    response: Buffer.from(response),
    latencyMs: 43.5,
  }
}

export function denied(changes: Partial<Call> = {}): AuditEvent {
  return { call: call({ evaluation: evaluation(), ...changes }), ending: refused('policy_denied') }
}

export function allowed(
  changes: Partial<Call> = {},
  response = '{"jsonrpc":"2.0","id":7,"result":{"content":[]}}',
): AuditEvent {
  return {
    call: call({
      stage: 'upstream',
      evaluation: evaluation({ allow: true, deniedBy: [] }),
      upstream: {
        server: 'github',
        status: 200,
        jsonRpcError: null,
        toolIsError: false,
        ms: 41.2,
        bytes: 5120,
        sha256: 'cd'.repeat(32),
      },
      timingsUs: {
        admit: 12,
        auth: 40,
        read: 210,
        authz: 160,
        rate: 1,
        validate: 30,
        audit: 2,
        upstream: 41_200,
      },
      ...changes,
    }),
    ending: answered(response),
  }
}

/** What an audit room needs besides its database: a spool in a folder of its own. Call `removeSpools` in `after`. */
export function spooling(changes: Partial<Pick<AuditRoomOptions, 'mode' | 'onFailure'>> = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'gateway-spool-'))
  spools.push(dir)
  return {
    mode: 'blocking' as const,
    onFailure: 'deny' as const,
    spool: { dir, maxBytes: 64 * 1024 * 1024 },
    ...changes,
  }
}

const spools: string[] = []

export function removeSpools(): void {
  for (const dir of spools.splice(0)) rmSync(dir, { recursive: true, force: true })
}
