import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import { createTestDatabase } from '../support/postgres.ts'
import type { RpcReply } from '../support/rpc.ts'
import { legacy, modern, post } from '../support/rpc.ts'
import type { RawHandler, ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

const RELATED = 'io.modelcontextprotocol/related-task'
/** Ids may be any text. */
const OWN_ID = 'täsk 1'
const FOREIGN_ID = 'task-of-somebody'
const INPUT = { q: { method: 'elicitation/create', params: { message: 'hidden?' } } }

const POLICY = `package gateway.authz

allow contains "everything" if count(input.principal.roles) > 0

deny contains "no-such-task" if {
	input.phase == "list"
	input.target.name == "refused-task"
}

deny contains "no-questions" if {
	input.target.kind == "server_request"
	not "answers" in input.principal.roles
}
`

describe('a task', () => {
  let database: Awaited<ReturnType<typeof createTestDatabase>>
  let upstream: ScriptedUpstream
  let second: ScriptedUpstream
  let gateway: TestGateway
  let replica: TestGateway
  let alice: string
  let mallory: string
  let mcp: string

  before(async () => {
    database = await createTestDatabase()
    upstream = await startScriptedUpstream({ sessions: true })
    second = await startScriptedUpstream()
    const options = {
      policies: { 'authz/rules.rego': POLICY },
      upstreams: { desk: upstream.url, other: upstream.url, second: second.url },
      database,
    }
    gateway = await startTestGateway(options)
    alice = await gateway.key({ name: 'alice' })
    mallory = await gateway.key({ name: 'mallory' })
    mcp = `${gateway.url}/mcp/desk`
  })
  after(async () => {
    await replica?.close()
    await gateway?.close()
    await upstream?.close()
    await second?.close()
    await database?.drop()
  })

  beforeEach(() =>
    upstream.handle((request, reply) => {
      const params = (request.json?.['params'] ?? {}) as Record<string, any>
      const task = { taskId: params['taskId'] ?? OWN_ID, status: 'working', ttlMs: null }
      if (request.method === 'tools/call') {
        if (request.headers['mcp-protocol-version'] !== '2026-07-28')
          return reply.result(params['task'] === undefined ? { task, taskId: 'as it is' } : { task })
        return reply.result({ resultType: 'task', ...task })
      }
      if (request.method === 'tasks/list')
        return reply.result({
          tasks: [{ ...task }, { taskId: FOREIGN_ID, status: 'working' }],
          nextCursor: 'page-2',
        })
      if (request.method === 'tasks/result')
        return reply.result({ content: [], _meta: { [RELATED]: { taskId: params['taskId'] } } })
      return reply.result(task)
    }),
  )

  const send = (method: string, params: object, key = alice, url = mcp): Promise<RpcReply> =>
    post(url, JSON.stringify({ jsonrpc: '2.0', id: 7, method, params }), legacy({ key }))
  const start = async (key = alice): Promise<string> =>
    (await send('tools/call', { name: 'echo', arguments: {}, task: {} }, key)).json.result.task.taskId
  const startModern = async (key = alice): Promise<string> =>
    (await modern(mcp, 'tools/call', { name: 'echo', arguments: {} }, { key })).json.result.taskId
  const ask = (method: string, taskId: string, key = alice, params: object = {}): Promise<RpcReply> =>
    modern(mcp, method, { taskId, ...params }, { key, headers: { 'mcp-name': taskId } })
  const last = (): Record<string, any> => upstream.requests.at(-1)?.json as Record<string, any>

  it('of 2025-11-25 has another name for its owner than at the upstream, wherever it is named', async () => {
    const taskId = await start()
    expect(taskId).to.match(/^gwt1\.[\w-]+\.[\w-]{43}$/)
    for (const method of ['tasks/get', 'tasks/cancel']) {
      expect((await send(method, { taskId })).json.result.taskId).to.equal(taskId)
      expect(last()['params'].taskId).to.equal(OWN_ID)
    }
    const result = await send('tasks/result', { taskId, _meta: { [RELATED]: { taskId } } })
    expect(result.json.result._meta[RELATED].taskId).to.equal(taskId)
    expect(last()['params']).to.deep.equal({ taskId: OWN_ID, _meta: { [RELATED]: { taskId: OWN_ID } } })
    const [row] = await gateway.rowsOf(result.requestId)
    expect(row).to.include({ target_kind: 'task', tool_name: OWN_ID, outcome: 'allowed' })
  })

  it('of the extension has one too, and the header that names it goes up as the body does', async () => {
    const taskId = await startModern()
    for (const method of ['tasks/get', 'tasks/cancel', 'tasks/update']) {
      const params = method === 'tasks/update' ? { inputResponses: {} } : {}
      expect((await ask(method, taskId, alice, params)).json.result.taskId).to.equal(taskId)
      expect(last()['params'].taskId).to.equal(OWN_ID)
      const header = upstream.requests.at(-1)?.headers['mcp-name']
      expect(header).to.equal(`=?base64?${Buffer.from(OWN_ID).toString('base64')}?=`)
    }
  })

  it('cannot be named by anybody else, nor at another mount, nor by the name it has at the upstream', async () => {
    const taskId = await start()
    const [prefix, , mac] = taskId.split('.')
    const other = `${prefix}.${Buffer.from(FOREIGN_ID).toString('base64url')}.${mac}`
    const namesake = await gateway.key({ name: 'alice', tenant: 'globex' })
    const tries: [string, string, string][] = [
      [taskId, mallory, mcp],
      [taskId, namesake, mcp],
      [taskId, alice, `${gateway.url}/mcp/other`],
      [OWN_ID, alice, mcp],
      [FOREIGN_ID, alice, mcp],
      [other, alice, mcp],
      [`${taskId}x`, alice, mcp],
      ['', alice, mcp],
    ]
    const before = upstream.count()
    for (const [id, key, url] of tries) {
      for (const method of ['tasks/get', 'tasks/result', 'tasks/cancel']) {
        const reply = await send(method, { taskId: id }, key, url)
        expect([reply.status, reply.json.error.code]).to.deep.equal([400, -32602])
        const rows = await gateway.rowsOf(reply.requestId)
        expect(rows.map((row) => row.outcome)).to.deep.equal(['invalid'])
      }
    }
    const modernId = await startModern()
    for (const method of ['tasks/get', 'tasks/update', 'tasks/cancel'])
      expect((await ask(method, modernId, mallory)).status).to.equal(400)
    expect(upstream.count() - before, 'but for the call that started one').to.equal(1)
  })

  it('is no reason to say more of a method that its era does not have', async () => {
    for (const method of ['tasks/result', 'tasks/list']) {
      const { status, json } = await modern(mcp, method, { taskId: FOREIGN_ID }, { key: alice })
      expect([status, json.error.code], method).to.deep.equal([404, -32601])
    }
    const { status, json } = await send('tasks/update', { taskId: FOREIGN_ID })
    expect([status, json.error.code]).to.deep.equal([200, -32601])
  })

  it('cannot be named by anybody else beside the task that a message is for, or in a subscription', async () => {
    const taskId = await start()
    const before = upstream.count()
    const messages: [string, object][] = [
      ['tools/call', { name: 'echo', _meta: { [RELATED]: { taskId } } }],
      ['tools/call', { name: 'echo', _meta: { 'io.modelcontextprotocol/relatedTaskIds': [taskId] } }],
      ['tools/call', { name: 'echo', _meta: { 'io.modelcontextprotocol/relatedTaskIds': 'all' } }],
    ]
    for (const [method, params] of messages)
      expect((await send(method, params, mallory)).json.error.code).to.equal(-32602)
    const answer = { jsonrpc: '2.0', id: 1, result: { _meta: { [RELATED]: { taskId } } } }
    expect((await post(mcp, JSON.stringify(answer), legacy({ key: mallory }))).status).to.equal(400)
    const look = `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"${taskId}","TaskID":"x"}}`
    expect((await post(mcp, look, legacy({ key: alice }))).status).to.equal(400)
    const listen = await modern(
      mcp,
      'subscriptions/listen',
      { notifications: { taskIds: [taskId] } },
      { key: mallory },
    )
    expect([listen.status, listen.json.error.code]).to.deep.equal([400, -32602])
    expect(upstream.count()).to.equal(before)
  })

  it('is in the list of its owner only, and the cursor stays', async () => {
    const taskId = await start()
    const own = await send('tasks/list', {})
    expect(own.json.result.tasks.map((task: any) => task.taskId)).to.deep.equal([taskId])
    expect(own.json.result.nextCursor).to.equal('page-2')
    expect((await send('tasks/list', {}, mallory)).json.result.tasks).to.deep.equal([])
  })

  it('is told of on a stream to its owner only', async () => {
    const taskId = await startModern()
    upstream.handle((request, reply) => {
      const stream = reply.stream()
      const params = (request.json as any).params.notifications
      stream.message({
        jsonrpc: '2.0',
        method: 'notifications/subscriptions/acknowledged',
        params: { notifications: params },
      })
      for (const id of [OWN_ID, FOREIGN_ID])
        stream.message({
          jsonrpc: '2.0',
          method: 'notifications/tasks',
          params: { taskId: id, status: 'working' },
        })
      stream.result({})
      stream.end()
    })
    const notifications = { taskIds: [taskId] }
    const reply = await modern(mcp, 'subscriptions/listen', { notifications }, { key: alice })
    expect(reply.text).to.contain(`"notifications":{"taskIds":["${taskId}"]}`)
    expect(reply.text).to.contain(`"params":{"taskId":"${taskId}"`)
    expect(reply.text).not.to.contain(FOREIGN_ID)
    expect(reply.text).not.to.contain(OWN_ID)
    expect(last()['params'].notifications.taskIds).to.deep.equal([OWN_ID])
  })

  it('that waits for input may ask only what the policy lets a server ask, in answers and in notifications', async () => {
    const answering = await gateway.key({ name: 'carol', roles: ['answers'] })
    const ids = new Map([
      [alice, await startModern()],
      [answering, await startModern(answering)],
    ])
    upstream.handle((_request, reply) =>
      reply.result({ taskId: OWN_ID, status: 'input_required', inputRequests: INPUT }),
    )
    const refused = await ask('tasks/get', ids.get(alice) as string)
    expect(refused.status).to.equal(403)
    expect(refused.text).not.to.contain('hidden')
    expect((await ask('tasks/get', ids.get(answering) as string, answering)).text).to.contain('hidden?')
    upstream.handle((_request, reply) => {
      const stream = reply.stream()
      const params = { taskId: OWN_ID, status: 'input_required', inputRequests: INPUT }
      stream.message({ jsonrpc: '2.0', method: 'notifications/tasks', params })
    })
    const notifications = { taskIds: [ids.get(alice)] }
    const stream = await modern(mcp, 'subscriptions/listen', { notifications }, { key: alice })
    expect(stream.text).not.to.contain('hidden')
    expect(stream.json.error.code).to.equal(1403)
  })

  it('is left alone where nobody asked for one', async () => {
    const reply = await send('tools/call', { name: 'echo', arguments: {} })
    expect(reply.json.result).to.deep.include({ taskId: 'as it is' })
    expect(reply.json.result.task.taskId).to.equal(OWN_ID)
    expect((await send('tasks/get', { taskId: OWN_ID })).status).to.equal(400)
  })

  it('with an id that cannot be bound is a failed upstream', async () => {
    for (const taskId of ['', 'x'.repeat(513)]) {
      upstream.handle((_request, reply) => reply.result({ task: { taskId } }))
      expect((await send('tools/call', { name: 'echo', task: {} })).status).to.equal(502)
    }
  })

  it('is named behind its upstream on the merged mount, and bound as at the own one', async () => {
    const merged = `${gateway.url}/mcp`
    const started = await send('tools/call', { name: 'desk__echo', arguments: {}, task: {} }, alice, merged)
    const { taskId } = started.json.result.task
    expect(taskId).to.match(/^desk__gwt1\./)
    const related = { [RELATED]: { taskId } }
    const got = await send('tasks/get', { taskId, _meta: related }, alice, merged)
    expect(got.json.result.taskId).to.equal(taskId)
    expect(last()['params']).to.deep.equal({ taskId: OWN_ID, _meta: { [RELATED]: { taskId: OWN_ID } } })
    const own = taskId.slice('desk__'.length)
    expect((await send('tasks/get', { taskId: own })).json.result.taskId, 'at its own mount').to.equal(own)
    const before = upstream.count()
    for (const [id, key] of [
      [taskId, mallory],
      [own, alice],
      [`other__${own}`, alice],
      [`desk__${OWN_ID}`, alice],
    ] as const)
      expect((await send('tasks/get', { taskId: id }, key, merged)).json.error.code).to.equal(-32602)
    expect(upstream.count()).to.equal(before)
  })

  describe('in a subscription', () => {
    /** What this upstream was asked to tell of, its own ids. */
    const asked = (from: ScriptedUpstream): readonly unknown[] =>
      from.requests
        .filter(({ method }) => method === 'subscriptions/listen')
        .map(({ json }) => (json as any).params.notifications)

    /** Acknowledges what it is asked for, tells of these tasks and ends. */
    const telling =
      (...ids: string[]): RawHandler =>
      (request, reply) => {
        if (request.method === 'tools/call')
          return reply.result({ resultType: 'task', taskId: ids[0], status: 'working' })
        const stream = reply.stream()
        const { notifications } = (request.json as any).params
        const method = 'notifications/subscriptions/acknowledged'
        stream.message({ jsonrpc: '2.0', method, params: { notifications } })
        for (const taskId of ids)
          stream.message({
            jsonrpc: '2.0',
            method: 'notifications/tasks',
            params: { taskId, status: 'completed', result: { content: [] } },
          })
        stream.result({})
        stream.end()
      }

    it('one that the policy refuses is left out, and of nothing but such there is no subscription', async () => {
      const [own, refused] = [
        await startModern(),
        await (async () => {
          upstream.handle(telling('refused-task'))
          return await startModern()
        })(),
      ]
      upstream.handle(telling(OWN_ID, 'refused-task'))
      const reply = await modern(
        mcp,
        'subscriptions/listen',
        { notifications: { taskIds: [refused, own] } },
        { key: alice },
      )
      expect(reply.status).to.equal(200)
      expect(reply.text).to.contain(`"notifications":{"taskIds":["${own}"]}`)
      expect(asked(upstream).at(-1)).to.deep.equal({ taskIds: [OWN_ID] })
      expect(reply.text, 'unasked for').to.not.contain(refused)
      const before = upstream.count()
      const none = await modern(
        mcp,
        'subscriptions/listen',
        { notifications: { taskIds: [refused] } },
        { key: alice },
      )
      expect([none.status, none.json.error.code]).to.deep.equal([403, 1403])
      expect(upstream.count()).to.equal(before)
    })

    it('of the merged mount each upstream hears of its own, and the client of all in one', async () => {
      const merged = `${gateway.url}/mcp`
      const startAt = async (name: string): Promise<string> =>
        (await modern(merged, 'tools/call', { name: `${name}__echo`, arguments: {} }, { key: alice })).json
          .result.taskId
      upstream.handle(telling('desk-task'))
      second.handle(telling('second-task', FOREIGN_ID))
      const ids = [await startAt('desk'), await startAt('second')] as const
      upstream.handle(telling('refused-task'))
      const refused = await startAt('desk')
      upstream.handle(telling('desk-task', 'refused-task'))
      const leaving = new AbortController()
      const meta = {
        'io.modelcontextprotocol/protocolVersion': '2026-07-28',
        'io.modelcontextprotocol/clientCapabilities': {},
      }
      const params = { notifications: { taskIds: [...ids, refused] }, _meta: meta }
      const response = await fetch(merged, {
        method: 'POST',
        headers: {
          ...{ authorization: `Bearer ${alice}`, accept: 'application/json, text/event-stream' },
          ...{ 'content-type': 'application/json', 'mcp-protocol-version': '2026-07-28' },
          'mcp-method': 'subscriptions/listen',
        },
        body: JSON.stringify({ jsonrpc: '2.0', id: 'sub', method: 'subscriptions/listen', params }),
        signal: leaving.signal,
      })
      let text = ''
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        text += Buffer.from(chunk).toString()
        if (ids.every((id) => text.includes(`"params":{"taskId":"${id}"`))) break
      }
      leaving.abort()
      const messages = [...text.matchAll(/^data: ?(.+)$/gm)].map(([, data]) => JSON.parse(data as string))
      expect(messages[0]).to.deep.include({ method: 'notifications/subscriptions/acknowledged' })
      expect(messages[0].params.notifications).to.deep.equal({ taskIds: ids })
      expect(asked(upstream)).to.deep.include({ taskIds: ['desk-task'] })
      expect(asked(second)).to.deep.equal([{ taskIds: ['second-task'] }])
      for (const strange of [FOREIGN_ID, refused, '"desk-task"', 'refused-task'])
        expect(text).to.not.contain(strange)
    })

    it('of the merged mount nobody names a task of somebody else, or one without its upstream', async () => {
      const merged = `${gateway.url}/mcp`
      const taskId = await startModern()
      const before = upstream.count() + second.count()
      for (const [id, key] of [
        [`desk__${taskId}`, mallory],
        [taskId, alice],
        [`second__${taskId}`, alice],
        [`nobody__${taskId}`, alice],
      ] as const) {
        const reply = await modern(
          merged,
          'subscriptions/listen',
          { notifications: { taskIds: [id] } },
          { key },
        )
        expect([reply.status, reply.json.error.code], id).to.deep.equal([400, -32602])
      }
      expect(upstream.count() + second.count()).to.equal(before)
    })
  })

  it('is known on every replica', async () => {
    const taskId = await start()
    replica = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: { desk: upstream.url },
      database,
    })
    const there = `${replica.url}/mcp/desk`
    expect((await send('tasks/get', { taskId }, alice, there)).json.result.taskId).to.equal(taskId)
    expect((await send('tasks/get', { taskId }, mallory, there)).status).to.equal(400)
  })
})
