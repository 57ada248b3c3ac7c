import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  Client as V2Client,
  StreamableHTTPClientTransport as V2Transport,
} from '@modelcontextprotocol/client'
import { Client as V1Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as V1Transport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { expect } from 'chai'

const NAMES = [
  'create_ticket',
  'delete_ticket',
  'export_tickets',
  'generate_report',
  'get_ticket',
  'run_sql',
  'search_tickets',
  'update_ticket',
]

describe('the example server', () => {
  let child: ChildProcess
  let url: URL
  let stderr = ''
  let stdout = ''

  before(async () => {
    child = spawn(process.execPath, ['--import=tsx/esm', 'examples/support-desk.ts', '--port', '0'], {
      stdio: 'pipe',
    })
    child.stdout?.on('data', (chunk: Buffer) => {
      stdout += chunk.toString()
    })
    await new Promise<void>((resolve, reject) => {
      child.once('exit', () => reject(new Error(`the example ended: ${stderr}`)))
      child.stderr?.on('data', (chunk: Buffer) => {
        stderr += chunk.toString()
        if (stderr.endsWith('\n')) resolve()
      })
    })
    const found = /^support-desk \(acme\) listening on (http:\/\/127\.0\.0\.1:\d+\/mcp)\n$/.exec(stderr)
    url = new URL(found?.[1] ?? '')
  })
  after(() => child.kill('SIGKILL'))

  const textOf = (result: unknown): string => {
    const content = (result as { content: { text?: string }[] }).content
    return content.map((block) => block.text ?? '').join('')
  }

  it('serves a 2026-07-28 client', async () => {
    const client = new V2Client({ name: 'test', version: '1' }, { versionNegotiation: { mode: 'auto' } })
    await client.connect(new V2Transport(url))
    expect(client.getProtocolEra()).to.equal('modern')
    const { tools } = await client.listTools()
    expect(tools.map((tool) => tool.name).sort()).to.deep.equal(NAMES)
    const hints = Object.fromEntries(tools.map((tool) => [tool.name, tool.annotations]))
    expect(hints['delete_ticket']).to.include({ readOnlyHint: false, destructiveHint: true })
    expect(hints['create_ticket']).to.include({ readOnlyHint: false, destructiveHint: false })
    expect(hints['run_sql']).to.include({ readOnlyHint: true })
    const sql = "SELECT id, status FROM tickets WHERE id = 'ACM-101'"
    expect(JSON.parse(textOf(await client.callTool({ name: 'run_sql', arguments: { sql } })))).to.deep.equal([
      {
        id: 'ACM-101',
        status: (
          JSON.parse(textOf(await client.callTool({ name: 'get_ticket', arguments: { id: 'ACM-101' } }))) as {
            status: string
          }
        ).status,
      },
    ])
    const drop = await client.callTool({ name: 'run_sql', arguments: { sql: 'DROP TABLE tickets' } })
    expect(drop.isError).to.equal(true)
    const handbook = await client.readResource({ uri: 'desk://handbook' })
    expect(JSON.stringify(handbook.contents)).to.contain('Support desk of acme')
    const prompt = await client.getPrompt({ name: 'draft_reply', arguments: { id: 'ACM-101' } })
    expect(prompt.messages).to.have.length(1)
    await client.close()
  })

  it('serves a 2025-11-25 client in a session and streams progress', async () => {
    const client = new V1Client({ name: 'test', version: '1' })
    const transport = new V1Transport(url)
    await client.connect(transport as Parameters<typeof client.connect>[0])
    expect(transport.sessionId).to.be.a('string')
    const created = textOf(
      await client.callTool({ name: 'create_ticket', arguments: { customer: 'Ada', subject: 'Hello' } }),
    )
    const { id } = JSON.parse(created) as { id: string }
    expect(
      textOf(await client.callTool({ name: 'update_ticket', arguments: { id, note: 'seen' } })),
    ).to.contain('seen')
    expect(textOf(await client.callTool({ name: 'delete_ticket', arguments: { id } }))).to.contain('deleted')
    const steps: number[] = []
    await client.callTool({ name: 'export_tickets', arguments: { delay_ms: 0 } }, undefined, {
      onprogress: ({ progress }) => steps.push(progress),
    })
    expect(steps).to.deep.equal([1, 2, 3, 4, 5, 6, 7, 8])
    await transport.terminateSession()
    await client.close()
  })

  it('ends with the process that started it, and has said one line', async () => {
    child.stdin?.end()
    expect(await once(child, 'exit')).to.deep.equal([0, null])
    expect(stdout).to.equal('')
    expect(stderr.split('\n')).to.have.length(2)
  })
})
