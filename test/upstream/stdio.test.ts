import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { GatewayError } from '../../src/errors.ts'
import { clientKey } from '../../src/gateway/open-call.ts'
import type { Message, UpstreamAnswer } from '../../src/gateway/types.ts'
import type { UpstreamSettings, Upstreams } from '../../src/upstream/room.ts'
import { createUpstreams } from '../../src/upstream/room.ts'
import type { StdioSettings } from '../../src/upstream/stdio/settings.ts'
import { backoffMs } from '../../src/upstream/stdio/supervisor.ts'
import { PRINCIPAL } from '../http/fixtures.ts'
import { until } from '../support/until.ts'
import type { RecordingSink } from './call-fixture.ts'
import {
  callOf,
  clock,
  getStream,
  notification,
  recordingSink,
  settingsOf,
  terminate,
} from './call-fixture.ts'

const SERVER = fileURLToPath(new URL('../support/stdio-server.mjs', import.meta.url))
const VICTIM = fileURLToPath(new URL('../support/stdio-victim.ts', import.meta.url))
const never = new AbortController().signal
const text = (answer: UpstreamAnswer): string =>
  (answer.parsed as { result: { content: { text: string }[] } }).result.content[0]?.text ?? ''

interface Ask {
  readonly id?: string
  readonly session?: string | null
  readonly sink?: RecordingSink
  readonly signal?: AbortSignal
  /** JSON text of params._meta. */
  readonly meta?: string
  /** Id of the principal. */
  readonly caller?: string
  readonly headers?: Readonly<Record<string, string>>
}

describe('a stdio upstream', function () {
  this.timeout(20_000)
  const open: Upstreams[] = []
  const logged: { fields: Record<string, unknown>; message: string }[] = []
  let folder: string

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gateway-stdio-'))
  })
  after(() => rm(folder, { recursive: true, force: true }))
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close()
    logged.length = 0
  })

  function start(
    flags: readonly string[] = [],
    stdio: Partial<StdioSettings> = {},
    settings: Partial<UpstreamSettings> = {},
  ): Upstreams {
    const note = (fields: object, message: string): void => {
      logged.push({ fields: fields as Record<string, unknown>, message })
    }
    const upstreams = createUpstreams({
      upstreams: {
        up: settingsOf({
          url: null,
          stdio: {
            command: [process.execPath, SERVER, ...flags],
            env: {},
            secrets: [],
            cwd: folder,
            sessions: 'per_session',
            maxChildren: 4,
            sessionIdleMs: 60_000,
            startTimeoutMs: 10_000,
            ...stdio,
          },
          ...settings,
        }),
      },
      limits: { stopGraceMs: 300, sweepMs: 20 },
      version: '1',
      clock,
      random: () => 0,
      log: { info: note, warn: note },
    })
    open.push(upstreams)
    return upstreams
  }

  async function send(
    upstreams: Upstreams,
    message: Partial<Message>,
    ask: Ask = {},
  ): Promise<UpstreamAnswer> {
    const session =
      ask.session === undefined || ask.session === null ? null : { upstreamId: ask.session, hash: 'h' }
    const call = callOf({ message: { session, ...message }, headers: ask.headers ?? {} })
    if (ask.caller !== undefined) call.principal = { ...PRINCIPAL, id: ask.caller }
    return await upstreams.forward(call, ask.sink ?? recordingSink(), ask.signal ?? never)
  }

  function request(
    upstreams: Upstreams,
    method: string,
    params: string,
    ask: Ask = {},
  ): Promise<UpstreamAnswer> {
    const idText = ask.id ?? '1'
    const body = Buffer.from(`{"jsonrpc":"2.0","id":${idText},"method":"${method}","params":${params}}`)
    return send(upstreams, { kind: 'request', method, idText, params: JSON.parse(params), body }, ask)
  }

  async function initialize(upstreams: Upstreams, caller?: string): Promise<string> {
    const params = {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'c', version: '1' },
    }
    const { head } = await request(upstreams, 'initialize', JSON.stringify(params), {
      ...(caller !== undefined && { caller }),
    })
    expect(head.sessionId).to.be.a('string')
    return head.sessionId as string
  }

  const call = (upstreams: Upstreams, name: string, args: object, ask: Ask = {}): Promise<UpstreamAnswer> => {
    const meta = ask.meta === undefined ? '' : `,"_meta":${ask.meta}`
    return request(
      upstreams,
      'tools/call',
      `{"name":"${name}","arguments":${JSON.stringify(args)}${meta}}`,
      ask,
    )
  }

  const pidOf = async (upstreams: Upstreams, session: string): Promise<number> =>
    Number(text(await call(upstreams, 'pid', {}, { session })))

  async function refusal(promise: Promise<unknown>): Promise<GatewayError> {
    const thrown = await promise.then(
      () => null,
      (error: unknown) => error,
    )
    expect(thrown).to.be.instanceOf(GatewayError)
    return thrown as GatewayError
  }

  const isAlive = (pid: number): boolean => {
    try {
      process.kill(pid, 0)
      return true
    } catch {
      return false
    }
  }

  it('lists its tools, is up, and shows its program without the arguments', async () => {
    const upstreams = start()
    expect((await upstreams.tools('up')).tools.map(({ name }) => name)).to.include('echo')
    expect(upstreams.states()[0]).to.include({
      status: 'up',
      url: 'stdio:node',
      protocolVersion: '2025-11-25',
    })
  })

  it('that ends when it is asked for a revision it does not know is asked for another', async () => {
    const upstreams = start(['--strict'])
    expect((await upstreams.tools('up')).tools).to.have.length.greaterThan(3)
  })

  it('keeps the digits of ids, arguments and results', async () => {
    const upstreams = start()
    const session = await initialize(upstreams)
    const id = '123456789012345678901234567890'
    const params = '{"name":"digits",\r\n "arguments":{"n":0.10000000000000000000000001e0}}'
    const { message } = await request(upstreams, 'tools/call', params, { session, id })
    expect(String(message))
      .to.contain(`"id":${id},"jsonrpc"`)
      .and.to.contain('{"n":0.10000000000000000000000001e0}')
  })

  it('gets the environment that was configured and no other', async () => {
    const upstreams = start([], { env: { ONE: '1' } })
    const session = await initialize(upstreams)
    expect(JSON.parse(text(await call(upstreams, 'env', {}, { session })))).to.deep.equal({ ONE: '1' })
  })

  for (const sessions of ['per_session', 'shared'] as const) {
    describe(`with sessions: ${sessions}`, () => {
      it('works on many requests at once and answers them in any order', async () => {
        const upstreams = start([], { sessions })
        const session = await initialize(upstreams)
        const order: string[] = []
        const waiting = ['"a"', '2', '3'].map((id) =>
          call(upstreams, 'wait', {}, { session, id }).then((answer) => {
            order.push(String(answer.parsed?.['id']))
          }),
        )
        await call(upstreams, 'release', {}, { session, id: '4' })
        await Promise.all(waiting)
        expect(order).to.deep.equal(['3', '2', 'a'])
      })

      it('tells apart what two clients call the same', async () => {
        const upstreams = start([], { sessions })
        const both = [await initialize(upstreams), await initialize(upstreams)]
        const sinks = [recordingSink(), recordingSink()]
        const answers = await Promise.all(
          both.map((session, at) =>
            call(
              upstreams,
              'progress',
              { steps: at + 1 },
              { session, sink: sinks[at] as RecordingSink, meta: '{"progressToken":"t"}' },
            ),
          ),
        )
        expect(answers.map((answer) => answer.parsed?.['id'])).to.deep.equal([1, 1])
        expect(
          sinks.map(({ events }) => events.map((event) => JSON.parse(event.data ?? '').params)),
        ).to.deep.equal([
          [{ progressToken: 't', progress: 1 }],
          [
            { progressToken: 't', progress: 1 },
            { progressToken: 't', progress: 2 },
          ],
        ])
      })

      it('tells the server when the caller leaves, and when a client cancels', async () => {
        const upstreams = start([], { sessions })
        const session = await initialize(upstreams)
        const leaving = new AbortController()
        const left = refusal(call(upstreams, 'wait', {}, { session, id: '5', signal: leaving.signal }))
        const cancelled = refusal(call(upstreams, 'wait', {}, { session, id: '6' }))
        await until('both to arrive', async () => {
          const seen: string[] = JSON.parse(text(await call(upstreams, 'seen', {}, { session })))
          return seen.filter((method) => method === 'tools/call').length >= 3
        })
        leaving.abort()
        const body =
          '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":6,"reason":"enough"}}'
        await send(upstreams, { ...notification, body: Buffer.from(body) }, { session })
        expect((await left).kind).to.equal('client_closed')
        expect((await cancelled).kind).to.equal('client_closed')
        await until('both to be cancelled', async () => {
          const seen: string[] = JSON.parse(text(await call(upstreams, 'seen', {}, { session })))
          return seen.filter((method) => method === 'notifications/cancelled').length === 2
        })
      })

      it('passes on what a task says behind the answer that began it, to its own client alone', async () => {
        const upstreams = start([], { sessions })
        const [first, second] = [await initialize(upstreams), await initialize(upstreams)]
        const sinks = [recordingSink(), recordingSink()]
        const streams = [first, second].map((session, at) =>
          send(upstreams, getStream.message ?? {}, { session, sink: sinks[at] as RecordingSink }),
        )
        await Promise.all(sinks.map((sink) => sink.opened))
        const begun = await call(upstreams, 'task', {}, { session: first, meta: '{"progressToken":"mine"}' })
        expect(begun.parsed?.['result']).to.have.nested.property('task.taskId')
        const seen = recordingSink()
        await call(upstreams, 'advance', {}, { session: first, sink: seen })
        const told = [...seen.events, ...(sinks[0] as RecordingSink).events]
        expect(told.map((event) => JSON.parse(event.data ?? '').params)).to.deep.equal([
          { progressToken: 'mine', progress: 1 },
        ])
        expect((sinks[1] as RecordingSink).events).to.deep.equal([])
        for (const session of [first, second]) await send(upstreams, terminate.message ?? {}, { session })
        await Promise.all(streams)
      })

      it('passes changes on to the stream of a session, also those that came before it was open', async () => {
        const upstreams = start([], { sessions })
        const session = await initialize(upstreams)
        await call(upstreams, 'changed', {}, { session })
        const sink = recordingSink()
        const leaving = new AbortController()
        const stream = send(upstreams, getStream.message ?? {}, { session, sink, signal: leaving.signal })
        expect((await sink.nth(0)).data).to.contain('notifications/tools/list_changed')
        await call(upstreams, 'changed', {}, { session })
        await sink.nth(1)
        const second = await send(upstreams, getStream.message ?? {}, { session })
        expect(second.head.status).to.equal(409)
        leaving.abort()
        await stream
      })

      it('a server that dies in the middle of a call fails that call once, and is there again', async () => {
        const upstreams = start([], { sessions })
        const session = await initialize(upstreams)
        const error = await refusal(call(upstreams, 'die', {}, { session }))
        expect(error).to.include({ kind: 'upstream_failed', detail: 'it ended (exit code 3)' })
        const next = sessions === 'shared' ? session : await initialize(upstreams)
        expect(text(await call(upstreams, 'echo', { text: 'again' }, { session: next }))).to.equal('again')
        if (sessions === 'shared') return
        const gone = await call(upstreams, 'echo', {}, { session })
        expect(gone.head.status).to.equal(404)
      })

      it('DELETE ends the session', async () => {
        const upstreams = start([], { sessions })
        const session = await initialize(upstreams)
        const pid = await pidOf(upstreams, session)
        expect((await send(upstreams, terminate.message ?? {}, { session })).head.status).to.equal(200)
        expect((await call(upstreams, 'echo', {}, { session })).head.status).to.equal(404)
        expect(isAlive(pid)).to.equal(sessions === 'shared')
      })
    })
  }

  it('asks the client of a session of its own, and takes its answer', async () => {
    const upstreams = start()
    const session = await initialize(upstreams)
    const sink = recordingSink()
    const asking = call(upstreams, 'ask', {}, { session, sink })
    const { id, method } = JSON.parse((await sink.nth(0)).data ?? '')
    expect(method).to.equal('roots/list')
    const answer = (result: object): Promise<UpstreamAnswer> => {
      const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', id, result }))
      return send(
        upstreams,
        { kind: 'response', method: 'response', idText: JSON.stringify(id), body },
        { session },
      )
    }
    expect((await answer({ roots: [] })).head.status).to.equal(202)
    expect(text(await asking)).to.equal('{"roots":[]}')
    // The second answer is to no question any more.
    await answer({ roots: ['late'] })
    const seen = JSON.parse(text(await call(upstreams, 'seen', {}, { session })))
    expect(seen.filter((one: string) => one === 'response')).to.have.length(1)
  })

  it('is refused what it asks the clients of a shared server', async () => {
    const upstreams = start([], { sessions: 'shared' })
    const session = await initialize(upstreams)
    expect(text(await call(upstreams, 'ask', {}, { session }))).to.contain('cannot be asked')
  })

  it('shares one process among sessions, or starts one for each, within the bound', async () => {
    const shared = start([], { sessions: 'shared' })
    const first = await initialize(shared)
    expect(await pidOf(shared, first)).to.equal(await pidOf(shared, await initialize(shared)))

    const own = start([], { maxChildren: 2 })
    const sessions = [await initialize(own), await initialize(own)]
    const pids = await Promise.all(sessions.map((session) => pidOf(own, session)))
    expect(pids[0]).not.to.equal(pids[1])
    const busy = sessions.map((session) => refusal(call(own, 'wait', {}, { session })))
    await Promise.all(sessions.map((session) => call(own, 'echo', {}, { session, id: '2' })))
    expect(await refusal(initialize(own))).to.include({ kind: 'overloaded' })
    await Promise.all(sessions.map((session) => send(own, terminate.message ?? {}, { session })))
    await Promise.all(busy)
    await initialize(own)
  })

  it('one caller has all servers only as long as no other wants one', async () => {
    const upstreams = start([], { maxChildren: 3 })
    const hers: string[] = []
    for (let n = 0; n < 3; n += 1) hers.push(await initialize(upstreams, 'alice'))
    const busy = hers.map((session) => refusal(call(upstreams, 'wait', {}, { session, caller: 'alice' })))
    await Promise.all(hers.map((session) => call(upstreams, 'echo', {}, { session, id: '2' })))

    const his = await initialize(upstreams, 'bob')
    expect((await busy[0])?.kind).to.equal('upstream_failed')
    expect((await call(upstreams, 'echo', {}, { session: hers[0] as string })).head.status).to.equal(404)
    // What is idle gives way to nobody who has more.
    expect((await refusal(initialize(upstreams, 'alice'))).kind).to.equal('overloaded')
    expect(text(await call(upstreams, 'echo', { text: 'still there' }, { session: his }))).to.equal(
      'still there',
    )
    await initialize(upstreams, 'bob')
    expect((await call(upstreams, 'echo', {}, { session: his })).head.status).to.equal(404)
    for (const session of hers.slice(1)) await send(upstreams, terminate.message ?? {}, { session })
    await Promise.all(busy)
  })

  it('an idle session gives way to a new one, and ends by itself after a while', async () => {
    const upstreams = start([], { maxChildren: 1 })
    const first = await initialize(upstreams)
    const pid = await pidOf(upstreams, first)
    await initialize(upstreams)
    expect(isAlive(pid)).to.equal(false)
    const idle = start([], { sessionIdleMs: 50 })
    const pidOfIdle = await pidOf(idle, await initialize(idle))
    await until('the idle one to end', () => !isAlive(pidOfIdle))
  })

  describe('on 2026-07-28', () => {
    const META = {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientCapabilities': {},
    }
    const modern = (
      upstreams: Upstreams,
      method: string,
      params: object,
      ask: Ask = {},
    ): Promise<UpstreamAnswer> => {
      const idText = ask.id ?? '1'
      const full = { ...params, _meta: { ...META, progressToken: 'mine' } }
      const body = Buffer.from(
        `{"jsonrpc":"2.0","id":${idText},"method":"${method}","params":${JSON.stringify(full)}}`,
      )
      const message = { era: 'modern', protocolVersion: '2026-07-28', method, idText, body } as const
      return send(upstreams, { kind: 'request', params: full, ...message }, ask)
    }

    it('requests stand alone and share one server', async () => {
      const upstreams = start(['--modern'])
      expect((await upstreams.tools('up')).tools).to.have.length.greaterThan(3)
      const pids = await Promise.all(
        ['1', '"1"', '1'].map(async (id) =>
          text(await modern(upstreams, 'tools/call', { name: 'pid' }, { id })),
        ),
      )
      expect(new Set(pids).size).to.equal(1)
      const sink = recordingSink()
      await modern(upstreams, 'tools/call', { name: 'progress' }, { sink })
      expect(JSON.parse(sink.events[0]?.data ?? '').params.progressToken).to.equal('mine')
      expect((await modern(upstreams, 'tasks/list', {})).head.status).to.equal(404)
    })

    it('headers that repeat arguments say what the body says', async () => {
      const upstreams = start(['--modern'])
      const marked = (args: object, headers: Record<string, string>): Promise<UpstreamAnswer> =>
        modern(upstreams, 'tools/call', { name: 'marked', arguments: args }, { headers })
      const same: [object, Record<string, string>][] = [
        [{}, {}],
        [{ region: null }, { 'mcp-param-region': 'ignored' }],
        [{ region: 'eu' }, { 'mcp-param-region': 'eu' }],
        [{ region: 'süd' }, { 'mcp-param-region': `=?base64?${Buffer.from('süd').toString('base64')}?=` }],
        [{ page: { size: 10 } }, { 'mcp-param-page-size': '10.0' }],
      ]
      for (const [args, headers] of same)
        expect(text(await marked(args, headers))).to.equal(JSON.stringify(args))
      const different: [object, Record<string, string>][] = [
        [{ region: 'eu' }, {}],
        [{ region: 'eu' }, { 'mcp-param-region': 'us' }],
        [{ region: 'eu' }, { 'mcp-param-region': '=?base64?e?=' }],
        [{ region: '7' }, { 'mcp-param-region': '7.0' }],
        [{ page: { size: 10 } }, { 'mcp-param-page-size': '11' }],
        [{ page: { size: 10 } }, { 'mcp-param-page-size': '' }],
      ]
      for (const [args, headers] of different)
        expect((await refusal(marked(args, headers))).kind, JSON.stringify(headers)).to.equal(
          'header_mismatch',
        )
    })

    it('headers repeat the arguments of a tool that only this client has been shown, too', async () => {
      const upstreams = start(['--modern'])
      const schema = { type: 'object', properties: { region: { type: 'string', 'x-mcp-header': 'Region' } } }
      const shown = { name: 'own', text: JSON.stringify({ name: 'own', inputSchema: schema }) }
      await upstreams.tools('up')
      upstreams.learnTools('up', clientKey(callOf({})), [shown])
      const params = { name: 'own', arguments: { region: 'eu' } }
      const headers = { 'mcp-param-region': 'us' }
      expect((await refusal(modern(upstreams, 'tools/call', params, { headers }))).kind).to.equal(
        'header_mismatch',
      )
    })

    it('a subscription gets what is tagged with its own id', async () => {
      const upstreams = start(['--modern'])
      const leaving = [new AbortController(), new AbortController()]
      const sinks = [recordingSink(), recordingSink()]
      const streams = leaving.map(({ signal }, at) =>
        modern(
          upstreams,
          'subscriptions/listen',
          { notifications: {} },
          {
            id: `"s${at}"`,
            signal,
            sink: sinks[at] as RecordingSink,
          },
        ),
      )
      await Promise.all(sinks.map((sink) => sink.nth(1)))
      expect(
        sinks.map(({ events }) => events.map(({ data }) => /"s\d"/.exec(data ?? '')?.[0])),
      ).to.deep.equal([
        ['"s0"', '"s0"'],
        ['"s1"', '"s1"'],
      ])
      for (const one of leaving) one.abort()
      await Promise.all(streams)
    })

    it('clients are told when the server knows sessions only, and the other way round', async () => {
      const old = await modern(start(), 'server/discover', {})
      expect(old.head.status).to.equal(400)
      expect(old.parsed?.['error']).to.include({ code: -32000 })
      const upstreams = start(['--modern'], { sessions: 'shared' })
      const params =
        '{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}'
      const young = await request(upstreams, 'initialize', params)
      expect(young.head.status).to.equal(400)
      expect(young.parsed?.['error']).to.deep.include({ code: -32022 })
    })
  })

  describe('that misbehaves', () => {
    it('by printing what is no message is heard nevertheless', async () => {
      const upstreams = start()
      const session = await initialize(upstreams)
      expect(text(await call(upstreams, 'garbage', {}, { session }))).to.equal('after the garbage')
      expect(logged.filter(({ message }) => message.includes('is no message'))).to.have.length.greaterThan(0)
    })

    it('by flooding is ended', async () => {
      const upstreams = start()
      const session = await initialize(upstreams)
      expect((await refusal(call(upstreams, 'flood', {}, { session }))).detail).to.contain('no messages')
    })

    it('by an endless line is ended, and by one too long fails that call alone', async () => {
      const upstreams = start([], {}, { maxAnswerBytes: 100_000 })
      const session = await initialize(upstreams)
      const waiting = call(upstreams, 'wait', {}, { session, id: '8' })
      const error = await refusal(call(upstreams, 'overlong', { bytes: 200_000 }, { session }))
      expect(error.detail).to.equal('its answer is larger than 100000 bytes')
      await call(upstreams, 'release', {}, { session, id: '9' })
      expect(text(await waiting)).to.equal('released')
      expect((await refusal(call(upstreams, 'endless', {}, { session }))).detail).to.contain('without an end')
    })

    it('by a response that can be read in two ways is not believed', async () => {
      const upstreams = start([], {}, { timeoutMs: 300 })
      const session = await initialize(upstreams)
      expect(await refusal(call(upstreams, 'twin', {}, { session }))).to.include({ kind: 'upstream_timeout' })
    })

    it('by not reading fills no memory', async () => {
      const upstreams = start(['--deaf'], { startTimeoutMs: 200, sessions: 'shared' }, { timeoutMs: 500 })
      expect((await refusal(initialize(upstreams))).detail).to.contain('did not start within 200 ms')
      const own = start(['--deaf'], {}, { timeoutMs: 300 })
      expect(await refusal(initialize(own))).to.include({ kind: 'upstream_timeout' })
    })

    it('by hanging is ended once it answers nothing, and started again', async () => {
      const upstreams = start([], { sessions: 'shared' }, { timeoutMs: 300 })
      const session = await initialize(upstreams)
      const pid = await pidOf(upstreams, session)
      expect(await refusal(call(upstreams, 'hang', {}, { session }))).to.include({ kind: 'upstream_timeout' })
      await until('it to be ended', () => !isAlive(pid), 12_000)
      expect(
        logged.some(({ fields }) => String(fields['reason']).includes('did not answer a ping')),
      ).to.equal(true)
      const again = await until('it to be there again', () => pidOf(upstreams, session).catch(() => null))
      expect(again).not.to.equal(pid)
    })

    it('by ending at once is not started again and again', async () => {
      const upstreams = start(['--exit-at-start'], { sessions: 'shared' })
      expect((await refusal(initialize(upstreams))).detail).to.contain('it ended (exit code 7)')
      for (let time = 0; time < 4; time += 1) await refusal(initialize(upstreams))
      expect((await refusal(initialize(upstreams))).detail).to.match(/circuit breaker|started again in/)
    })

    it('or is not there at all, is a failed upstream', async () => {
      const upstreams = start([], { command: ['/nonexistent/server'] })
      expect((await refusal(initialize(upstreams))).detail).to.contain('it could not be started (ENOENT)')
      await refusal(upstreams.tools('up'))
      expect(upstreams.states()[0]?.lastError).to.contain('it could not be started (ENOENT)')
      const long = start([], { command: [process.execPath, 'x'.repeat(4_000_000)] })
      expect((await refusal(initialize(long))).detail).to.contain('it could not be started (E2BIG)')
    })

    it('by ignoring the end of its input and SIGTERM is killed, with all it has started', async () => {
      const file = join(folder, 'fork')
      const upstreams = start(['--ignore-term', '--fork'], { env: { FORK_FILE: file } })
      const pid = await pidOf(upstreams, await initialize(upstreams))
      const grandchild = Number(await readFile(file, 'utf8'))
      expect([pid, grandchild].map(isAlive)).to.deep.equal([true, true])
      await upstreams.close()
      await until('both to be gone', () => !isAlive(pid) && !isAlive(grandchild))
    })
  })

  it('writes its standard error to the log, within bounds and without its secrets', async () => {
    const script = `process.stdin.resume(); console.error('token is s3cret-value'); console.error('x'.repeat(5000));
      for (let i = 0; i < 500; i += 1) console.error('line', i)`
    const upstreams = start([], {
      command: [process.execPath, '-e', script],
      secrets: ['s3cret-value'],
      startTimeoutMs: 1000,
    })
    await refusal(upstreams.tools('up'))
    const lines = logged.flatMap(({ fields }) => fields['stderr'] ?? [])
    expect(lines[0]).to.equal('token is [redacted]')
    expect(String(lines[1])).to.have.length(2002)
    expect(lines.length).to.be.within(100, 250)
  })

  it('does not outlive a gateway that was killed, with all it has started', async () => {
    const files = [join(folder, 'pid'), join(folder, 'fork-of-victim')]
    const child = spawn(process.execPath, ['--import=tsx/esm', VICTIM, SERVER, ...files], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    const pids = await Promise.all(files.map(async (file) => Number(await readFile(file, 'utf8'))))
    expect(pids.map(isAlive)).to.deep.equal([true, true])
    child.kill('SIGKILL')
    await until('both to be gone', () => !pids.some(isAlive))
  })

  it('is started again ever later, up to a minute', () => {
    expect([0, 1, 2, 3, 20].map((failures) => backoffMs(failures, () => 1))).to.deep.equal([
      0, 500, 1000, 2000, 60_000,
    ])
    expect(backoffMs(3, () => 0)).to.equal(1000)
  })
})
