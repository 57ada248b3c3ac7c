import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { SdkUpstream } from '../support/sdk-upstreams.ts'
import { startV1Upstream, startV2Upstream } from '../support/sdk-upstreams.ts'

const run = promisify(execFile)
const PROGRAM = fileURLToPath(new URL('./client.py', import.meta.url))
/** An interpreter that has the package `mcp`, such as that of a virtual environment. */
const PYTHON = process.env['MCP_PYTHON'] ?? 'python3'

const POLICY = `package gateway.authz

allow contains "all-but-destroy" if count(input.principal.roles) > 0

deny contains "no-destruction" if input.target.name == "destroy"

limits contains {"name": "few-fails", "key": [input.principal.id], "limit": 1, "window_s": 3600} if {
	input.target.name == "fail"
}
`

/** What client.py prints. */
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
}

describe('the official Python SDK works through the gateway', function () {
  this.timeout(60_000)
  let upstreams: Readonly<Record<string, SdkUpstream>>
  let gateway: TestGateway

  before(async function () {
    const version = 'import importlib.metadata as m, mcp; print(m.version("mcp"))'
    const found = await run(PYTHON, ['-c', version]).catch(() => null)
    if (found === null || Number(found.stdout.split('.')[0]) < 2) {
      // What mocha shows of a pending test is its title alone.
      console.log(
        `      skipped: ${PYTHON} has no package mcp >= 2; MCP_PYTHON names an interpreter that has`,
      )
      this.skip()
    }
    upstreams = { sessions: await startV1Upstream(), both: await startV2Upstream() }
    const urls = Object.entries(upstreams).map(([name, { url }]) => [name, url])
    gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: Object.fromEntries(urls),
    })
  })
  after(async () => {
    await gateway?.close()
    for (const upstream of Object.values(upstreams ?? {})) await upstream.close()
  })

  for (const [mount, mode, revision] of [
    ['sessions', 'legacy', '2025-11-25'],
    ['sessions', 'auto', '2025-11-25'],
    ['both', 'legacy', '2025-11-25'],
    ['both', 'auto', '2026-07-28'],
    ['both', '2026-07-28', '2026-07-28'],
  ] as const) {
    it(`${mode}, in front of ${mount}`, async () => {
      const name = `python-${mount}-${mode}`
      const key = await gateway.key({ name })
      const { stdout } = await run(PYTHON, [PROGRAM, `${gateway.url}/mcp/${mount}`, key, mode])
      const seen = JSON.parse(stdout) as Seen
      expect(seen.revision).to.equal(revision)
      expect(seen.tools).to.include('echo').and.not.include('destroy')
      expect(seen.allowed).to.equal('größe')
      expect(seen.denied).to.contain('raised MCPError').and.contain('Forbidden')
      expect(seen.limited[0]).to.equal('error it failed')
      expect(seen.limited[1]).to.contain('raised MCPError').and.contain('Rate limit exceeded')
      expect(seen.invalid).to.contain('/text').and.not.contain('hunter2')
      expect(seen.progress).to.deep.equal(['3 steps', [1, 2, 3]])
      expect(seen.cancelled)
        .to.contain('raised MCPError')
        .and.match(/timed out/i)
      expect([seen.after, seen.again]).to.deep.equal(['still here', 'back'])
      const denials = (await gateway.rows()).filter(
        (row) => row['principal_id'] === name && row.outcome === 'denied_authz',
      )
      expect(denials.map((row) => row['tool_name'])).to.deep.equal(['destroy'])
    })
  }
})
