import { expect } from 'chai'
import { METHOD_NAMES } from '../../src/gateway/targets.ts'
import type { Era } from '../../src/gateway/types.ts'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { RpcReply } from '../support/rpc.ts'
import { legacy, modern, post } from '../support/rpc.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { SCRIPTED_SESSION, startScriptedUpstream } from '../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "developers" if "developer" in input.principal.roles
`

interface MethodCase {
  readonly method: string
  readonly eras: readonly Era[]
  readonly params: Record<string, unknown>
  readonly kind: string
  readonly name: string
}

const BOTH = ['legacy', 'modern'] as const
const of = (
  method: string,
  eras: readonly Era[],
  params: Record<string, unknown> = {},
  kind = 'server',
  name = 'desk',
): MethodCase => ({ method, eras, params, kind, name })

/** Every method there is, in each of its eras: what it wants to use, as the policy and the row have it. */
const METHODS: readonly MethodCase[] = [
  of('initialize', ['legacy'], {
    ...{ protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'a', version: '1' } },
  }),
  of('server/discover', ['modern']),
  of('ping', ['legacy']),
  of('logging/setLevel', ['legacy'], { level: 'debug' }),
  of('tools/list', BOTH),
  of('resources/list', BOTH),
  of('resources/templates/list', BOTH),
  of('prompts/list', BOTH),
  of('subscriptions/listen', ['modern'], { notifications: { toolsListChanged: true } }),
  of('tasks/list', ['legacy']),
  of('tools/call', BOTH, { name: 'echo', arguments: {} }, 'tool', 'echo'),
  of('resources/read', BOTH, { uri: 'FILE:///a/../b' }, 'resource', 'file:///b'),
  of('resources/subscribe', ['legacy'], { uri: 'file:///b' }, 'resource', 'file:///b'),
  of('resources/unsubscribe', ['legacy'], { uri: 'file:///b' }, 'resource', 'file:///b'),
  of('prompts/get', BOTH, { name: 'greet', arguments: {} }, 'prompt', 'greet'),
  of(
    'completion/complete',
    BOTH,
    { ref: { type: 'ref/prompt', name: 'greet' }, argument: { name: 'to', value: 'a' } },
    'completion',
    'greet',
  ),
  of('tasks/get', BOTH, { taskId: '' }, 'task', 'task-1'),
  of('tasks/result', ['legacy'], { taskId: '' }, 'task', 'task-1'),
  of('tasks/update', ['modern'], { taskId: '', inputResponses: {} }, 'task', 'task-1'),
  of('tasks/cancel', BOTH, { taskId: '' }, 'task', 'task-1'),
  of('notifications/initialized', ['legacy']),
  of('notifications/cancelled', BOTH, { requestId: 1 }),
  of('notifications/progress', ['legacy'], { progressToken: 1, progress: 1 }),
  of('notifications/roots/list_changed', ['legacy']),
  of('notifications/tasks/status', ['legacy'], { taskId: 'the-client-s-own', status: 'working' }),
]

describe('every method is governed', () => {
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let mcp: string

  before(async () => {
    upstream = await startScriptedUpstream({
      sessions: true,
      handle(request, reply) {
        if (request.httpMethod === 'GET') return reply.stream().end()
        if (request.httpMethod === 'DELETE') return reply.send(200, '')
        if (request.id === undefined) return reply.send(202, '')
        if (request.method === 'subscriptions/listen') {
          const stream = reply.stream()
          stream.result({})
          return stream.end()
        }
        const params = request.json?.['params'] as { task?: unknown } | undefined
        if (params?.task === undefined) return reply.result({})
        return reply.result({ task: { taskId: 'task-1', status: 'working' } })
      },
    })
    gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: { desk: upstream.url },
    })
    mcp = `${gateway.url}/mcp/desk`
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
  })

  /** A task of the caller's own, as it knows it. */
  async function startTask(key: string): Promise<string> {
    const params = { name: 'echo', arguments: {}, task: { ttl: 60_000 } }
    const body = { jsonrpc: '2.0', id: 1, method: 'tools/call', params }
    return (await post(mcp, JSON.stringify(body), legacy({ key }))).json.result.task.taskId
  }

  async function send(
    { method, params }: MethodCase,
    era: Era,
    key: string,
    taskId: string,
  ): Promise<RpcReply> {
    const known = params['taskId'] === '' ? { ...params, taskId } : params
    const isNotice = method.startsWith('notifications/')
    if (era === 'modern' && isNotice) {
      const body = JSON.stringify({ jsonrpc: '2.0', method, params: known })
      return await post(mcp, body, { key, headers: { 'mcp-protocol-version': '2026-07-28' } })
    }
    const headers: Record<string, string> = 'taskId' in known ? { 'mcp-name': taskId } : {}
    if (era === 'modern') return await modern(mcp, method, known, { key, headers })
    const body = { jsonrpc: '2.0', ...(isNotice ? {} : { id: 7 }), method, params: known }
    return await post(mcp, JSON.stringify(body), legacy({ key }))
  }

  it('the table below is the whole list', () => {
    expect(METHODS.map(({ method }) => method)).to.have.members([...METHOD_NAMES])
  })

  for (const one of METHODS) {
    for (const era of one.eras) {
      it(`${one.method} of ${era}`, async () => {
        // The same principal, whose roles have changed: a task stays its own.
        const allowed = await gateway.key({ name: `user-${one.method}-${era}` })
        const denied = await gateway.key({ name: `user-${one.method}-${era}`, roles: ['guest'] })
        const taskId = one.kind === 'task' ? await startTask(allowed) : ''
        const before = upstream.count(one.method)
        const reply = await send(one, era, allowed, taskId)
        expect([reply.status, reply.json?.error]).to.deep.equal([
          reply.status < 300 ? reply.status : 200,
          undefined,
        ])
        expect(upstream.count(one.method)).to.equal(before + 1)
        const refused = await send(one, era, denied, taskId)
        expect([refused.status, refused.json.error.code]).to.deep.equal([403, 1403])
        expect(upstream.count(one.method)).to.equal(before + 1)
        const rows = [
          ...(await gateway.rowsOf(reply.requestId)),
          ...(await gateway.rowsOf(refused.requestId)),
        ]
        expect(
          rows.map((row) => [row['method'], row['target_kind'], row['tool_name'], row.outcome]),
        ).to.deep.equal([
          [one.method, one.kind, one.name, 'allowed'],
          [one.method, one.kind, one.name, 'denied_authz'],
        ])
      })
    }
  }

  for (const httpMethod of ['GET', 'DELETE']) {
    it(`${httpMethod} of a session`, async () => {
      const name = `user-${httpMethod}`
      const [allowed, denied] = [await gateway.key({ name }), await gateway.key({ name, roles: ['guest'] })]
      const opened = await send(METHODS[0] as MethodCase, 'legacy', allowed, '')
      const session = opened.headers.get('mcp-session-id') as string
      expect(session).not.to.contain(SCRIPTED_SESSION)
      const ask = (key: string): Promise<RpcReply> =>
        post(mcp, null, legacy({ key, httpMethod, headers: { 'mcp-session-id': session } }))
      const before = upstream.count(httpMethod)
      const replies = [await ask(allowed), await ask(denied)]
      expect(replies.map(({ status }) => status)).to.deep.equal([200, 403])
      expect(upstream.count(httpMethod)).to.equal(before + 1)
      const rows = await Promise.all(replies.map(({ requestId }) => gateway.rowsOf(requestId)))
      expect(rows.flat().map((row) => [row['method'], row['target_kind'], row.outcome])).to.deep.equal([
        [httpMethod, 'server', 'allowed'],
        [httpMethod, 'server', 'denied_authz'],
      ])
    })
  }
})
