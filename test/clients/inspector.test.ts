import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { SUITE_FOLDER, SUITE_NODE } from '../conformance/suite.ts'
import type { TestGateway } from '../support/gateway.ts'
import type { SdkGateway } from '../support/sdk-gateway.ts'
import { startSdkGateway } from '../support/sdk-gateway.ts'

const PROGRAM = join(
  SUITE_FOLDER,
  'node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js',
)

/** What a person sees in the terminal. */
interface Shown {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

describe('the command line of the MCP Inspector works through the gateway', function () {
  this.timeout(60_000)
  let ground: SdkGateway
  let gateway: TestGateway
  let home: string

  before(async function () {
    if (!(existsSync(PROGRAM) && existsSync(SUITE_NODE))) {
      console.log('      skipped: the Inspector is not here; npm run conformance installs it')
      this.skip()
    }
    home = await mkdtemp(join(tmpdir(), 'inspector-'))
    ground = await startSdkGateway(
      '\ndeny contains "not-that-word" if input.arguments.text == "unspeakable"\n',
    )
    gateway = ground.gateway
  })
  after(async () => {
    await ground?.close()
    if (home !== undefined) await rm(home, { recursive: true, force: true })
  })

  function inspect(mount: string, key: string, ...method: string[]): Promise<Shown> {
    const header = `Authorization: Bearer ${key}`
    const server = [`${gateway.url}/mcp/${mount}`, '--transport', 'http', '--header', header]
    const args = [PROGRAM, '--cli', ...server, '--method', ...method]
    return new Promise((resolve) => {
      execFile(SUITE_NODE, args, { env: { ...process.env, HOME: home } }, (error, stdout, stderr) => {
        resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr })
      })
    })
  }

  const callTool = (name: string, ...pairs: string[]): string[] => [
    ...['tools/call', '--tool-name', name],
    ...pairs.flatMap((pair) => ['--tool-arg', pair]),
  ]

  for (const mount of ['sessions', 'both']) {
    it(`lists, calls, and says why not, in front of ${mount}`, async () => {
      const key = await gateway.key({ name: `inspector-${mount}` })
      const use = (...method: string[]): Promise<Shown> => inspect(mount, key, ...method)

      const { tools } = JSON.parse((await use('tools/list')).stdout) as { tools: { name: string }[] }
      expect(tools.map((tool) => tool.name))
        .to.include('echo')
        .and.not.include('destroy')

      const said = await use(...callTool('echo', 'text=hi'))
      expect(said.code).to.equal(0)
      expect(JSON.parse(said.stdout)).to.deep.equal({ content: [{ type: 'text', text: 'hi' }] })

      const progress = await use(...callTool('progress', 'steps=3'))
      expect(progress.stdout).to.contain('3 steps')

      const hidden = await use(...callTool('destroy', 'id=1'))
      expect(hidden.stderr).to.contain("Tool 'destroy' not found")

      const denied = await use(...callTool('echo', 'text=unspeakable'))
      const row = (await gateway.rows()).findLast((found) => found.outcome === 'denied_authz')
      expect(denied.code).to.not.equal(0)
      expect(denied.stderr).to.contain('Forbidden').and.contain(row?.request_id)

      const erred = await use(...callTool('fail'))
      expect(erred.stdout).to.contain('it failed')
      const limited = await use(...callTool('fail'))
      expect(limited.code).to.not.equal(0)
      expect(limited.stderr).to.contain('Rate limit').and.contain('retry after')

      const invalid = await use(...callTool('echo', 'text={"secret":"hunter2"}'))
      expect(invalid.stdout).to.contain('/text: type').and.not.contain('hunter2')
    })
  }

  it('a key that is none is refused', async () => {
    const shown = await inspect('both', `gwk_none_${'x'.repeat(43)}`, 'tools/list')
    expect(shown.code).to.not.equal(0)
    expect(shown.stderr).to.match(/auth_required/)
  })
})
