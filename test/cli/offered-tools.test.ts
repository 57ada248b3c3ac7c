import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { expect } from 'chai'
import { readOfferedTools } from '../../src/cli/offered-tools.ts'
import { createOutput } from '../../src/cli/output.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createFolders } from '../policy/testing/folder.ts'
import { startRawUpstream, startScriptedUpstream } from '../support/upstreams.ts'

describe('what configured upstreams offer', () => {
  const folders = createFolders('gateway-offered-')
  after(() => folders.remove())

  it('is read from those that answer; one that stalls or lies holds nobody up and is told on stderr', async () => {
    const desk = await startScriptedUpstream({
      tools: [
        { name: 'search', inputSchema: { type: 'object' } },
        { name: 'odd', inputSchema: { type: 'object', $ref: 'https://example.com/schema' } },
      ],
    })
    const stalled = await startRawUpstream(() => undefined)
    const liar = await startRawUpstream((_request, reply) => reply.send(200, '\u001b[2Jno JSON'))
    try {
      const upstreams = { desk, stalled, liar }
      const folder = await folders.make({
        'policies/a.rego': 'package gateway.authz\n',
        'gateway.yaml': `policies: ./policies\nupstreams:\n${Object.entries(upstreams)
          .map(([name, { url }]) => `  ${name}: { url: "${url}" }\n`)
          .join('')}`,
      })
      const { config } = loadConfig({ file: join(folder, 'gateway.yaml'), environment: {} })
      const stderr = new PassThrough()
      const out = createOutput({ color: false }, { stdout: new PassThrough(), stderr })
      const offered = await readOfferedTools(out, config, 3000)
      expect(offered.get('desk')).to.deep.equal(new Set(['search', 'odd']))
      expect([offered.get('stalled'), offered.get('liar')]).to.deep.equal([null, null])
      const told = String(stderr.read())
      expect(told).to.match(
        /^stalled could not be asked, so its tools were not compared: no answer within 3000 ms$/m,
      )
      expect(told)
        .to.match(/^liar could not be asked/m)
        .and.not.include('\u001b')
    } finally {
      await Promise.all([desk.close(), stalled.close(), liar.close()])
    }
  })
})
