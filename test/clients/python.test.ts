import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { SdkGateway } from '../support/sdk-gateway.ts'
import { SDK_GATEWAY_POLICY, startSdkGateway } from '../support/sdk-gateway.ts'
import type { SessionUpstream } from '../support/sdk-upstreams.ts'
import { startV1Upstream } from '../support/sdk-upstreams.ts'

const PROGRAM = fileURLToPath(new URL('./client.py', import.meta.url))
const PROGRAM_V1 = fileURLToPath(new URL('./client_v1.py', import.meta.url))
/** An interpreter that has the package `mcp`, such as that of a virtual environment. */
const PYTHON = process.env['MCP_PYTHON'] ?? 'python3'

/** Runs a program; `onLine` is told each line that it prints. Returns the last one. */
async function run(
  args: readonly string[],
  onLine: (line: string) => void = () => undefined,
): Promise<string> {
  const child = spawn(PYTHON, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const texts = { out: '', err: '' }
  child.stdout.on('data', (chunk) => {
    const told = texts.out.split('\n').length
    texts.out += String(chunk)
    for (const line of texts.out.split('\n').slice(told - 1, -1)) onLine(line)
  })
  child.stderr.on('data', (chunk) => {
    texts.err += String(chunk)
  })
  const [code] = await Promise.race([
    once(child, 'close'),
    once(child, 'error').then(([error]) => Promise.reject(error as Error)),
  ])
  if (code !== 0) throw new Error(texts.err)
  return texts.out.trimEnd().split('\n').at(-1) ?? ''
}

/** Of the package `mcp`; null = it is not there. Says why the suite is skipped. */
async function majorVersion(wanted: number): Promise<boolean> {
  const version = await run(['-c', 'import importlib.metadata as m, mcp; print(m.version("mcp"))']).catch(
    () => '',
  )
  if (Number(version.split('.')[0]) === wanted) return true
  // What mocha shows of a pending test is its title alone.
  console.log(
    `      skipped: ${PYTHON} has no package mcp ${wanted}; MCP_PYTHON names an interpreter that has`,
  )
  return false
}

/** What client.py prints; the last two of servers with subscriptions only. */
interface Seen {
  readonly revision: string
  readonly tools: readonly string[]
  readonly allowed: string
  readonly denied: string
  readonly limited: readonly [string, string]
  readonly invalid: string
  readonly progress: readonly [string, readonly number[]]
  readonly cancelled: string
  readonly after: string
  readonly again: string
  readonly asked?: string
  readonly heard?: readonly [resource: string, updated: string]
}

describe('the official Python SDK works through the gateway', function () {
  this.timeout(60_000)
  let ground: SdkGateway
  let gateway: TestGateway

  before(async function () {
    if (!(await majorVersion(2))) this.skip()
    ground = await startSdkGateway()
    gateway = ground.gateway
  })
  after(async () => {
    await ground?.close()
  })

  for (const [mount, mode, revision, prefix = '', uriPrefix = ''] of [
    ['/mcp/sessions', 'legacy', '2025-11-25'],
    ['/mcp/sessions', 'auto', '2025-11-25'],
    ['/mcp/both', 'legacy', '2025-11-25'],
    ['/mcp/both', 'auto', '2026-07-28'],
    ['/mcp/both', '2026-07-28', '2026-07-28'],
    ['/mcp', 'legacy', '2025-11-25', 'sessions__', 'mcp+sessions+'],
    ['/mcp', 'auto', '2025-11-25', 'sessions__', 'mcp+sessions+'],
  ] as const) {
    it(`${mode}, at ${mount}`, async () => {
      const name = `python-${mount}-${mode}`
      const key = await gateway.key({ name })
      const args = [PROGRAM, `${gateway.url}${mount}`, key, mode, prefix, uriPrefix]
      const printed = await run(args, (line) => {
        if (line === 'SUBSCRIBED') void ground.upstreams.sessions.update('test://a')
      })
      const seen = JSON.parse(printed) as Seen
      expect(seen.revision).to.equal(revision)
      expect(seen.tools).to.include(`${prefix}echo`).and.not.include(`${prefix}destroy`)
      expect(seen.allowed).to.equal('größe')
      expect(seen.denied).to.contain('raised MCPError').and.contain('Forbidden')
      expect(seen.limited[0]).to.equal('error it failed')
      expect(seen.limited[1]).to.contain('raised MCPError').and.contain('Rate limit exceeded')
      expect(seen.invalid).to.contain('/text').and.not.contain('hunter2')
      expect(seen.progress).to.deep.equal(['3 steps', [1, 2, 3]])
      expect(seen.cancelled)
        .to.contain('raised MCPError')
        .and.match(/timed out/i)
      if (mount !== '/mcp/both') {
        expect(seen.asked).to.contain('green')
        expect(seen.heard).to.deep.equal(['content of test://a', `${uriPrefix}test://a`])
      }
      expect([seen.after, seen.again]).to.deep.equal(['still here', 'back'])
      const denials = (await gateway.rows()).filter(
        (row) => row['principal_id'] === name && row.outcome === 'denied_authz',
      )
      expect(denials.map((row) => row['tool_name'])).to.deep.equal(['destroy'])
    })
  }
})

describe('the official Python SDK 1.x works through a gateway that denies in band', function () {
  this.timeout(60_000)
  let upstream: SessionUpstream
  let gateway: TestGateway

  before(async function () {
    if (!(await majorVersion(1))) this.skip()
    upstream = await startV1Upstream()
    gateway = await startTestGateway({
      policies: { 'authz/rules.rego': SDK_GATEWAY_POLICY },
      upstreams: { up: upstream.url },
      settings: { deny_as: 'in_band' },
    })
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
  })

  for (const [mount, prefix, uriPrefix] of [
    ['/mcp/up', '', ''],
    ['/mcp', 'up__', 'mcp+up+'],
  ] as const) {
    it(`at ${mount}`, async () => {
      const args = [PROGRAM_V1, `${gateway.url}${mount}`, await gateway.key(), prefix, uriPrefix]
      const printed = await run(args, (line) => {
        if (line === 'SUBSCRIBED') void upstream.update('test://a')
      })
      const { tools, denied, ...seen } = JSON.parse(printed) as Record<string, unknown>
      expect(tools).to.include(`${prefix}echo`).and.not.include(`${prefix}destroy`)
      expect(seen).to.deep.equal({
        ...{ revision: '2025-11-25', allowed: 'größe', progress: ['3 steps', [1, 2, 3]] },
        asked: '{"action":"accept","content":{"choice":"green"}}',
        heard: ['content of test://a', `${uriPrefix}test://a`],
        after: 'still here',
      })
      const row = (await gateway.rows()).findLast(({ outcome }) => outcome === 'denied_authz')
      expect(denied).to.equal(`raised McpError: Forbidden (request ${row?.request_id})`)
    })
  }
})
