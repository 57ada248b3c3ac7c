import type { CallToolRequest } from '@modelcontextprotocol/client'
import {
  Client as V2Client,
  StreamableHTTPClientTransport as V2Transport,
} from '@modelcontextprotocol/client'
import { Client as V1Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as V1Transport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import type { SdkGateway } from '../support/sdk-gateway.ts'
import { startSdkGateway } from '../support/sdk-gateway.ts'
import type { SdkUpstream } from '../support/sdk-upstreams.ts'
import { until } from '../support/until.ts'

const LIMITED = 'Rate limit exceeded'

/** What a program sees of a client, whichever SDK it comes from. */
interface Driver {
  readonly tools: () => Promise<readonly string[]>
  readonly call: (params: CallToolRequest['params'], options?: CallOptions) => Promise<unknown>
  readonly close: () => Promise<void>
}

interface CallOptions {
  readonly onprogress?: (report: { progress: number }) => void
  readonly signal?: AbortSignal
}

type Connect = (url: URL, key: string) => Promise<Driver>

const init = (key: string): { requestInit: RequestInit } => ({
  requestInit: { headers: { authorization: `Bearer ${key}` } },
})

const v1: Connect = async (url, key) => {
  const client = new V1Client({ name: 'v1', version: '1' })
  await client.connect(new V1Transport(url, init(key)) as never)
  return {
    tools: async () => (await client.listTools()).tools.map((tool) => tool.name),
    call: async (params, options) => await client.callTool(params, undefined, options),
    close: () => client.close(),
  }
}

type Negotiation = 'auto' | { readonly pin: string } | null

function v2(mode: Negotiation): Connect {
  return async (url, key) => {
    const options = mode === null ? {} : { versionNegotiation: { mode } }
    const client = new V2Client({ name: 'v2', version: '1' }, options)
    await client.connect(new V2Transport(url, init(key)))
    return {
      tools: async () => (await client.listTools()).tools.map((tool) => tool.name),
      call: async (params, how) => await client.callTool(params, how),
      close: () => client.close(),
    }
  }
}

interface Case {
  readonly name: string
  readonly mount: 'sessions' | 'both'
  readonly connect: Connect
  /** 2025 without a session: a server cannot know which call a notification means, with and without a gateway. */
  readonly isLoose?: true
}

const CLIENTS: readonly Case[] = [
  { name: 'SDK v1 with a session', mount: 'sessions', connect: v1 },
  { name: 'SDK v1 without a session', mount: 'both', connect: v1, isLoose: true },
  { name: 'SDK v2 by default', mount: 'sessions', connect: v2(null) },
  { name: 'SDK v2 by default, without a session,', mount: 'both', connect: v2(null), isLoose: true },
  { name: 'SDK v2 auto, falling back,', mount: 'sessions', connect: v2('auto') },
  { name: 'SDK v2 auto', mount: 'both', connect: v2('auto') },
  { name: 'SDK v2 pinned to 2026-07-28', mount: 'both', connect: v2({ pin: '2026-07-28' }) },
]

describe('what clients show of the answers of the gateway', function () {
  this.timeout(20_000)
  let ground: SdkGateway
  let gateway: TestGateway

  before(async () => {
    ground = await startSdkGateway()
    gateway = ground.gateway
  })
  after(async () => {
    await ground?.close()
  })

  const failed = async (call: Promise<unknown>): Promise<string> => {
    const thrown = await call.then(
      () => null,
      (error: unknown) => error,
    )
    expect(thrown).to.be.instanceOf(Error)
    return String(thrown)
  }

  for (const [at, { name, mount, connect, isLoose }] of CLIENTS.entries()) {
    describe(name, () => {
      let driver: Driver
      let key: string
      let principal: string
      const upstream = (): SdkUpstream => ground.upstreams[mount]
      const rowsOf = async (outcome: string): Promise<readonly Record<string, unknown>[]> =>
        (await gateway.rows()).filter((row) => row['principal_id'] === principal && row.outcome === outcome)

      before(async () => {
        principal = `client-${at}`
        key = await gateway.key({ name: principal })
        driver = await connect(new URL(`${gateway.url}/mcp/${mount}`), key)
      })
      after(() => driver?.close())

      it('lists what it may use, and the answer of a tool is its own', async () => {
        expect(await driver.tools())
          .to.include('echo')
          .and.not.include('destroy')
        const said = await driver.call({ name: 'echo', arguments: { text: 'größe 😀' } })
        expect(said).to.deep.include({ content: [{ type: 'text', text: 'größe 😀' }] })
        const erred = await driver.call({ name: 'fail', arguments: {} })
        expect(erred).to.deep.include({ isError: true, content: [{ type: 'text', text: 'it failed' }] })
      })

      it('a denied call fails with a reason and an id to ask with, and leaves the connection as it was', async () => {
        const shown = await failed(driver.call({ name: 'destroy', arguments: { id: '1' } }))
        const [row] = await rowsOf('denied_authz')
        expect(shown).to.contain('Forbidden').and.contain(row?.['request_id'])
        expect(shown, 'no name of a rule').to.not.contain('no-destruction')
        expect(upstream().calls('destroy')).to.equal(0)
        expect(JSON.stringify(await driver.call({ name: 'echo', arguments: { text: 'still' } }))).to.contain(
          'still',
        )
      })

      it('a call over its limit fails at once and is not tried again', async () => {
        const ran = upstream().calls('fail')
        const shown = await failed(driver.call({ name: 'fail', arguments: {} }))
        expect(shown).to.contain(LIMITED)
        expect(upstream().calls('fail')).to.equal(ran)
        expect(await rowsOf('rate_limited')).to.have.length(1)
      })

      it('arguments that do not fit are told by path and rule, never by value', async () => {
        const ran = upstream().calls('echo')
        const call = driver.call({ name: 'echo', arguments: { text: { secret: 'hunter2' } } })
        const shown = await call.then((result) => JSON.stringify(result), String)
        expect(shown).to.contain('/text').and.contain('type')
        expect(shown).to.not.contain('hunter2')
        expect(upstream().calls('echo')).to.equal(ran)
      })

      it('progress arrives in order', async () => {
        const steps: number[] = []
        const onprogress = ({ progress }: { progress: number }): number => steps.push(progress)
        await driver.call({ name: 'progress', arguments: { steps: 5 } }, { onprogress })
        expect(steps).to.deep.equal([1, 2, 3, 4, 5])
      })

      it('a call that is cancelled stops, at the upstream too where it can be told', async () => {
        const heard = (): number =>
          isLoose ? upstream().count('notifications/cancelled') : upstream().cancelled()
        const [ran, before] = [upstream().calls('slow'), heard()]
        const leaving = new AbortController()
        const { signal } = leaving
        const shown = failed(driver.call({ name: 'slow', arguments: { milliseconds: 2000 } }, { signal }))
        await until('the call to run', () => upstream().calls('slow') > ran)
        leaving.abort('not needed any more')
        expect(await shown).to.contain('not needed any more')
        await until('the upstream to hear of it', () => heard() > before)
        expect(JSON.stringify(await driver.call({ name: 'echo', arguments: { text: 'next' } }))).to.contain(
          'next',
        )
      })

      it('one that has left comes back as the same principal', async () => {
        await driver.close()
        driver = await connect(new URL(`${gateway.url}/mcp/${mount}`), key)
        expect(JSON.stringify(await driver.call({ name: 'echo', arguments: { text: 'back' } }))).to.contain(
          'back',
        )
        expect(await failed(driver.call({ name: 'fail', arguments: {} }))).to.contain(LIMITED)
      })

      it('a key that is none is refused when it connects', async () => {
        const shown = await failed(
          connect(new URL(`${gateway.url}/mcp/${mount}`), `gwk_none_${'x'.repeat(43)}`),
        )
        expect(shown).to.match(/Unauthori[sz]ed|401/)
      })
    })
  }
})
