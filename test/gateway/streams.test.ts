import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { revokeKey } from '../../src/auth/key-store.ts'
import type { Row, TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import { legacy, modern, post } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { RawReply, RawRequest, RawStream, ScriptedUpstream } from '../support/upstreams.ts'
import { SCRIPTED_SESSION, startScriptedUpstream } from '../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "has-a-role" if count(input.principal.roles) > 0
`
const NO_ECHO = `${POLICY}
deny contains "no-echo" if input.target.name == "echo"
`
const TOOL_CALL = '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{}}}'
const progress = (step: number) => ({
  jsonrpc: '2.0',
  method: 'notifications/progress',
  params: { progressToken: 1, progress: step },
})

describe('streams through the gateway', function () {
  this.timeout(30_000)
  let folder: string
  let rules: string
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let mcp: string
  let firstRevision: string
  /** What the upstream was asked on its streams, and the streams it has opened, in order. */
  let opened: { request: RawRequest; reply: RawReply; stream: RawStream }[] = []

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gateway-streams-'))
    rules = join(folder, 'rules.rego')
    await writeFile(rules, POLICY)
    upstream = await startScriptedUpstream({ sessions: true })
    gateway = await startTestGateway({
      upstreams: {
        desk: upstream.url,
        nervous: { url: upstream.url, idle_timeout_ms: 1000, timeout_ms: 20_000 },
      },
      settings: { policies: folder },
    })
    key = await gateway.key()
    mcp = `${gateway.url}/mcp/desk`
    await post(mcp, '{"jsonrpc":"2.0","id":1,"method":"tools/list"}', legacy({ key }))
    firstRevision = (await gateway.rows())[0]?.['policy_revision']
  })
  beforeEach(() => {
    opened = []
    upstream.handle((request, reply) => {
      if (request.httpMethod === 'DELETE') return reply.send(200, '')
      opened.push({ request, reply, stream: reply.stream() })
    })
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
    await rm(folder, { recursive: true, force: true })
  })

  const initialize = {
    ...{ jsonrpc: '2.0', id: 1, method: 'initialize' },
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 't', version: '1' } },
  }

  async function openSession(): Promise<string> {
    const reply = await post(mcp, JSON.stringify(initialize), legacy({ key }))
    return reply.headers.get('mcp-session-id') as string
  }

  function headers(credential: string, session: string | null, more: Record<string, string> = {}) {
    return {
      authorization: `Bearer ${credential}`,
      accept: 'application/json, text/event-stream',
      'content-type': 'application/json',
      'mcp-protocol-version': '2025-11-25',
      ...(session !== null && { 'mcp-session-id': session }),
      ...more,
    }
  }

  /** A tools/call whose answer is a stream. */
  async function openAnswer(credential: string, url = mcp, signal?: AbortSignal): Promise<OpenStream> {
    const response = await fetch(url, {
      method: 'POST',
      headers: headers(credential, null),
      body: TOOL_CALL,
      ...(signal && { signal }),
    })
    return toOpenStream(response)
  }

  async function openListener(session: string, more: Record<string, string> = {}): Promise<OpenStream> {
    return toOpenStream(await fetch(mcp, { headers: headers(key, session, more) }))
  }

  async function onlyRow(requestId: string): Promise<Row> {
    const rows = await until('the row', async () => {
      const found = await gateway.rowsOf(requestId)
      return found.length > 0 ? found : null
    })
    expect(rows).to.have.lengthOf(1)
    return rows[0] as Row
  }

  it('relay each event before the next one is sent, and the client can tell them apart', async () => {
    const session = await openSession()
    for (const open of [() => openAnswer(key), () => openListener(session)]) {
      const client = await open()
      const { stream } = opened.at(-1)!
      for (let step = 0; step < 3; step += 1) {
        stream.message(progress(step), { id: `e${step}` })
        expect(await client.next()).to.equal(`id: e${step}\ndata: ${JSON.stringify(progress(step))}\n\n`)
      }
      stream.result({ content: [] })
      stream.end()
      await client.rest()
      expect(await onlyRow(client.requestId)).to.include({ outcome: 'allowed' })
    }
  })

  it('carry the answer of a 2026-07-28 request the same way', async () => {
    const reply = modern(mcp, 'tools/call', { name: 'echo', arguments: {} }, { key })
    await until('the stream', () => opened.length === 1)
    opened[0]!.stream.message(progress(1))
    opened[0]!.stream.result({ content: [] })
    expect((await reply).text).to.contain('notifications/progress')
    expect((await reply).json.result).to.deep.include({ content: [] })
    expect(await onlyRow((await reply).requestId as string)).to.include({ outcome: 'allowed' })
  })

  it('that their client leaves are aborted upstream, with a row that says so', async () => {
    const leaving = new AbortController()
    const client = await openAnswer(key, mcp, leaving.signal)
    opened[0]!.stream.message(progress(1))
    await client.next()
    leaving.abort()
    await opened[0]!.reply.closed
    expect(await onlyRow(client.requestId)).to.include({ outcome: 'client_closed', status_code: 499 })
  })

  it('that fall silent while they owe an answer end with an error event and the id of the request', async () => {
    const client = await openAnswer(key, `${gateway.url}/mcp/nervous`)
    expect(await client.rest())
      .to.contain('"id":7')
      .and.contain('"code":1504')
    await opened[0]!.reply.closed
    expect(await onlyRow(client.requestId)).to.include({ outcome: 'upstream_timeout' })
  })

  it('end at their greatest age: those of a session as they should, an answer with an error event', async () => {
    const brief = await startTestGateway({
      upstreams: { desk: upstream.url },
      settings: { limits: { max_stream_s: 1 } },
      database: gateway.database,
    })
    try {
      const url = `${brief.url}/mcp/desk`
      const listener = toOpenStream(await fetch(url, { headers: headers(key, await openSession()) }))
      const answer = await openAnswer(key, url)
      expect(await listener.rest()).to.equal('')
      expect(await answer.rest())
        .to.contain('"id":7')
        .and.contain('"code":1504')
      expect(await onlyRow(listener.requestId)).to.include({ outcome: 'allowed', method: 'GET' })
      expect(await onlyRow(answer.requestId)).to.include({ outcome: 'upstream_timeout' })
    } finally {
      await brief.close()
    }
  })

  it('are resumed where they broke, within the session of who resumes them, and judged anew', async () => {
    const session = await openSession()
    const client = await openListener(session, { 'last-event-id': 'e41' })
    expect(opened[0]!.request.headers).to.deep.include({
      'last-event-id': 'e41',
      'mcp-session-id': SCRIPTED_SESSION,
    })
    opened[0]!.stream.message({ jsonrpc: '2.0', id: 3, result: { content: [] } }, { id: 'e42' })
    expect(await client.next()).to.contain('id: e42\n')
    opened[0]!.stream.end()
    expect(await client.rest()).to.equal('')
    expect(await onlyRow(client.requestId)).to.include({ outcome: 'allowed', method: 'GET' })

    const resume = (credential: string) =>
      fetch(mcp, { headers: headers(credential, session, { 'last-event-id': 'e42' }) })
    const other = await gateway.key({ name: 'bob' })
    const roleless = await gateway.key({ name: 'alice', roles: [] })
    const revoked = await gateway.key({ name: 'alice' })
    await revoke(revoked)
    const asked = upstream.requests.length
    const statuses = [await resume(other), await resume(roleless), await resume(revoked)].map(
      (response) => response.status,
    )
    expect(statuses).to.deep.equal([404, 403, 401])
    expect(upstream.requests.length).to.equal(asked)
  })

  it('end with their session: DELETE goes up with the id of the upstream, once', async () => {
    const session = await openSession()
    const end = () =>
      post(mcp, null, legacy({ key, httpMethod: 'DELETE', headers: { 'mcp-session-id': session } }))
    const reply = await end()
    expect(reply.status).to.equal(200)
    expect(upstream.requests.at(-1)).to.include({ httpMethod: 'DELETE' })
    expect(upstream.requests.at(-1)?.headers['mcp-session-id']).to.equal(SCRIPTED_SESSION)
    expect(await onlyRow(reply.requestId as string)).to.include({ outcome: 'allowed', method: 'DELETE' })
  })

  async function revoke(text: string): Promise<void> {
    await revokeKey(gateway.database.pool, text.split('_')[1] as string)
    await until('the key to be refused', async () => {
      const reply = await post(mcp, '{"jsonrpc":"2.0","id":1,"method":"ping"}', legacy({ key: text }))
      return reply.status === 401
    })
  }

  it('that carry an answer end when the key is revoked, with an error event', async () => {
    const own = await gateway.key({ name: 'leaver' })
    upstream.handle((request, reply) => {
      if (request.method === 'tools/call') opened.push({ request, reply, stream: reply.stream() })
      else reply.result({})
    })
    const client = await openAnswer(own)
    await revoke(own)
    expect(await client.rest())
      .to.contain('"id":7')
      .and.contain('"code":1401')
    await opened[0]!.reply.closed
    expect(await onlyRow(client.requestId)).to.include({ outcome: 'denied_auth', reason: 'unauthenticated' })
  })

  it('that carry an answer end with a policy that does not allow it, and go on with one that does', async () => {
    const client = await openAnswer(key)
    await writeFile(rules, `${POLICY}\n# another revision\n`)
    await until('the new policy', async () => {
      opened.splice(1)
      const other = await openAnswer(key)
      opened.at(-1)!.stream.result({})
      await other.rest()
      return (await onlyRow(other.requestId))['policy_revision'] !== firstRevision
    })
    opened[0]!.stream.result({ content: [] })
    expect(await client.rest()).to.contain('"result"')
    const row = await onlyRow(client.requestId)
    expect(row).to.include({ outcome: 'allowed' })
    expect(row['policy_revision']).to.equal(firstRevision)

    const denied = await openAnswer(key)
    await writeFile(rules, NO_ECHO)
    expect(await denied.rest())
      .to.contain('"id":7')
      .and.contain('"code":1403')
    const last = await onlyRow(denied.requestId)
    expect(last).to.include({ outcome: 'denied_authz', reason: 'policy_denied' })
    expect(last.decision['authz'].denied_by).to.deep.equal(['no-echo'])
  })
})

interface OpenStream {
  readonly requestId: string
  /** The next event, with its blank line. */
  next(): Promise<string>
  /** Everything up to the end. */
  rest(): Promise<string>
}

function toOpenStream(response: Response): OpenStream {
  expect(response.status).to.equal(200)
  expect(response.headers.get('content-type')).to.equal('text/event-stream')
  const reader = (response.body as ReadableStream<Uint8Array>).getReader()
  const decoder = new TextDecoder()
  let text = ''

  async function more(): Promise<boolean> {
    const { done, value } = await reader.read()
    text += decoder.decode(value, { stream: !done })
    return !done
  }

  return {
    requestId: response.headers.get('x-request-id') as string,
    async next() {
      while (!text.includes('\n\n')) if (!(await more())) throw new Error('the stream has ended')
      const end = text.indexOf('\n\n') + 2
      const event = text.slice(0, end)
      text = text.slice(end)
      return event
    },
    async rest() {
      while (await more());
      return text
    },
  }
}
