import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import type { Server } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { readAnchorFile } from '../../src/audit/anchor-file.ts'
import type { AnchorTarget } from '../../src/audit/anchors.ts'
import { createAnchors } from '../../src/audit/anchors.ts'
import { createSigner, signCheckpoint } from '../../src/audit/signing.ts'
import { until } from '../support/until.ts'

const signer = createSigner(generateKeyPairSync('ed25519').privateKey)
const writer = randomUUID()
const checkpoint = (seq: number) =>
  signCheckpoint(
    { writer, seq: String(seq), leaf: 'ab'.repeat(32), rows: 1, ts: new Date(seq).toISOString() },
    signer,
  )

describe('audit/anchors', () => {
  let folder: string
  const servers: Server[] = []
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gateway-anchors-'))
  })
  afterEach(async () => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections()
      server.close()
    }
    await rm(folder, { recursive: true, force: true })
  })

  function open(targets: readonly AnchorTarget[], limits = {}) {
    const logged: string[] = []
    const log = (fields: object, text: string) => void logged.push(`${text} ${JSON.stringify(fields)}`)
    const options = {
      targets,
      log: { info: log, warn: log, error: log },
      retryMinMs: 5,
      retryMaxMs: 10,
      ...limits,
    }
    return { anchors: createAnchors(options), logged }
  }

  /** An endpoint that answers with these status codes in turn; 0 = never, the last one for ever. */
  async function endpoint(...statuses: number[]) {
    const bodies: string[] = []
    const server = createServer((request, response) => {
      let body = ''
      request.on('data', (chunk) => {
        body += chunk
      })
      request.on('end', () => {
        bodies.push(body)
        const status = statuses.length > 1 ? statuses.shift() : statuses[0]
        if (status !== 0) response.writeHead(status ?? 500, { location: 'http://127.0.0.1:9/' }).end('x')
      })
    })
    servers.push(server)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/anchor?token=hunter2`, bodies }
  }

  it('writes one line per checkpoint, which verify reads again', async () => {
    const file = join(folder, 'anchors.ndjson')
    const { anchors, logged } = open([{ kind: 'file', file }, { kind: 'log' }])
    for (const seq of [1, 2, 3]) anchors.record(checkpoint(seq))
    await anchors.close()
    expect((await readFile(file, 'utf8')).trimEnd().split('\n')).to.have.lengthOf(3)
    expect((await stat(file)).mode & 0o777).to.equal(0o600)
    const read = await readAnchorFile(file, { since: null, until: null })
    expect(read.at(writer, 2n)).to.deep.equal(checkpoint(2))
    expect(logged).to.have.lengthOf(3)
  })

  it('posts to an endpoint and repeats what it does not take, in order; no redirect is followed', async () => {
    const { url, bodies } = await endpoint(503, 302, 200)
    const { anchors, logged } = open([{ kind: 'url', url }])
    for (const seq of [1, 2]) anchors.record(checkpoint(seq))
    await until('all bodies', () => bodies.length === 4)
    await anchors.close()
    expect(bodies.map((body) => JSON.parse(body).audit_checkpoint.seq)).to.deep.equal(['1', '1', '1', '2'])
    expect(logged).to.have.lengthOf(2)
    expect(logged.join()).to.include('HTTP 503').and.not.include('hunter2')
  })

  it('never waits, keeps a bounded number for an endpoint that hangs, and says at the end what is left', async () => {
    const { url } = await endpoint(0)
    const { anchors, logged } = open([{ kind: 'url', url }], { deadlineMs: 50, maxWaiting: 10 })
    for (let seq = 1; seq <= 100; seq += 1) anchors.record(checkpoint(seq))
    await anchors.close()
    expect(logged.at(-1)).to.include('"undelivered":10')
  })

  it('goes on when one place fails', async () => {
    const file = join(folder, 'good.ndjson')
    const { anchors } = open([
      { kind: 'file', file: join(folder, 'none', 'x') },
      { kind: 'file', file },
    ])
    anchors.record(checkpoint(1))
    await anchors.close()
    expect(await readFile(file, 'utf8')).to.include('"seq":"1"')
  })
})
