import { request } from 'node:http'
import { expect } from 'chai'
import type { AdminOptions, Check } from '../../src/admin/admin.ts'
import { createAdmin } from '../../src/admin/admin.ts'
import { GatewayError } from '../../src/errors.ts'
import type { Credential, Principal } from '../../src/gateway/types.ts'

const GOOD: Record<string, Check> = {
  database: { state: 'ok', required: true },
  audit: { state: 'disabled', required: true },
  upstreams: { state: 'failed', required: false },
}

const PRINCIPAL: Principal = {
  id: 'ops',
  kind: 'user',
  roles: [],
  tenant: null,
  teams: [],
  scopes: ['gateway:admin'],
  claims: {},
  authMethod: 'api_key',
  apiKeyId: 'k1',
}

describe('the admin listener', () => {
  let closers: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const close of closers) await close()
    closers = []
  })

  async function open(parts: Partial<AdminOptions> = {}) {
    const seen: (Credential | null)[] = []
    const faults: unknown[] = []
    const admin = createAdmin({
      listen: { host: '127.0.0.1', port: 0 },
      allowedHosts: ['gateway.example'],
      health: () => GOOD,
      isDraining: () => false,
      authenticate: (credential) => {
        seen.push(credential)
        if (credential?.secret === 'good') return PRINCIPAL
        if (credential?.secret === 'other') return { ...PRINCIPAL, scopes: ['gateway:other'] }
        throw new GatewayError('unauthenticated', { detail: 'not for strangers' })
      },
      metrics: { contentType: 'text/plain; version=0.0.4', text: async () => 'up 1\n' },
      onFault: (error) => faults.push(error),
      ...parts,
    })
    const { port } = await admin.listen()
    closers.push(() => admin.close())
    const get = (path: string, headers: Record<string, string | string[]> = {}, method = 'GET') =>
      send(port, path, headers, method)
    return { admin, port, get, seen, faults }
  }

  it('says that it lives, to everybody, also while it drains', async () => {
    const { get } = await open({ isDraining: () => true })
    expect(await get('/livez')).to.deep.include({ status: 200, body: '{"status":"live"}' })
    const ready = await get('/readyz')
    expect(ready.status).to.equal(503)
    expect(JSON.parse(ready.body)).to.deep.equal({ status: 'draining', checks: {} })
  })

  it('is ready when everything required works, and says that audit is off', async () => {
    const { get } = await open()
    const { status, body } = await get('/readyz')
    expect(status).to.equal(200)
    expect(JSON.parse(body)).to.deep.equal({ status: 'ready', checks: GOOD })
  })

  it('is not ready when something required fails, throws or hangs', async () => {
    const failed: Check = { state: 'failed', required: true }
    const one = await open({ health: () => ({ ...GOOD, database: failed }) })
    expect((await one.get('/readyz')).status).to.equal(503)
    const two = await open({ health: () => Promise.reject(new Error('secret detail')) })
    const answer = await two.get('/readyz')
    expect(answer.status).to.equal(503)
    expect(answer.body).to.not.include('secret detail')
    expect(two.faults).to.have.length(1)
    const three = await open({ health: () => new Promise(() => undefined) })
    expect((await three.get('/readyz')).status).to.equal(503)
  })

  it('runs the checks once for all who ask at the same time', async () => {
    let runs = 0
    let release = (): void => undefined
    const { get } = await open({
      health: () => {
        runs += 1
        return new Promise((resolve) => {
          release = () => resolve(GOOD)
        })
      },
    })
    const answers = [get('/readyz'), get('/readyz'), get('/readyz')]
    // The last of them is in when a fourth one has been answered by another route.
    await get('/livez')
    await get('/livez')
    release()
    for (const answer of answers) expect((await answer).status).to.equal(200)
    expect(runs).to.be.at.most(2)
  })

  it('shows everything else only to keys with the scope gateway:admin', async () => {
    const { get, seen } = await open()
    for (const path of ['/metrics', '/', '/admin', '/metrics/../metrics']) {
      const refused = await get(path)
      expect(refused.status, path).to.equal(401)
      expect(refused.headers['www-authenticate']).to.equal('Bearer')
      expect(refused.headers['content-type']).to.include('application/problem+json')
      expect(refused.body).to.not.include('strangers')
    }
    expect((await get('/metrics', { authorization: 'Bearer other' })).status).to.equal(403)
    expect(await get('/metrics', { authorization: 'Bearer good' })).to.deep.include({
      status: 200,
      body: 'up 1\n',
    })
    expect((await get('/metrics', { 'x-api-key': 'good' })).status).to.equal(200)
    expect((await get('/nothing', { authorization: 'bearer  good' })).status).to.equal(404)
    expect(seen.at(-1)).to.deep.equal({ scheme: 'bearer', secret: 'good' })
  })

  it('takes two credentials for none', async () => {
    const { get } = await open()
    expect((await get('/metrics', { authorization: 'Bearer good', 'x-api-key': 'good' })).status).to.equal(
      401,
    )
    expect((await get('/metrics', { authorization: ['Bearer good', 'Bearer good'] })).status).to.equal(401)
    expect((await get('/metrics', { authorization: 'Basic good' })).status).to.equal(401)
  })

  it('answers what authentication says', async () => {
    const throttled = await open({
      authenticate: () => {
        throw new GatewayError('address_throttled', { data: { retryAfterSeconds: 7 } })
      },
    })
    const refused = await throttled.get('/metrics', { authorization: 'Bearer good' })
    expect(refused.status).to.equal(429)
    expect(refused.headers['retry-after']).to.equal('7')
    const broken = await open({ authenticate: () => Promise.reject(new TypeError('oops')) })
    expect((await broken.get('/metrics')).status).to.equal(500)
    expect(broken.faults).to.have.length(1)
  })

  it('keeps web pages out by Host and Origin', async () => {
    const { get, port } = await open()
    for (const host of [
      '127.0.0.1',
      `localhost:${port}`,
      '[::1]',
      '10.1.2.3:8081',
      'gateway.example',
      'Gateway.Example:1',
    ]) {
      expect((await get('/livez', { host })).status, host).to.equal(200)
    }
    for (const host of ['evil.example', 'localhost.evil.example', 'gateway.example.evil']) {
      expect((await get('/livez', { host })).status, host).to.equal(403)
    }
    expect((await get('/livez', { origin: 'https://evil.example' })).status).to.equal(403)
  })

  it('only reads, and sends headers that keep browsers from doing more', async () => {
    const { get } = await open()
    expect((await get('/readyz', {}, 'POST')).status).to.equal(405)
    expect((await get('/livez', {}, 'HEAD')).status).to.equal(200)
    const { headers } = await get('/livez')
    expect(headers).to.include({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
    expect(headers['content-security-policy']).to.include("default-src 'none'")
    expect(headers).to.not.have.property('x-powered-by')
  })

  it('rejects with the system’s reason when the address is taken', async () => {
    const { port } = await open()
    let code: unknown
    await open({ listen: { host: '127.0.0.1', port } }).catch((error: NodeJS.ErrnoException) => {
      code = error.code
    })
    expect(code).to.equal('EADDRINUSE')
  })
})

interface Answer {
  readonly status: number
  readonly headers: NodeJS.Dict<string | string[]>
  readonly body: string
}

/** Unlike fetch it sends any Host, and a header twice. */
function send(
  port: number,
  path: string,
  headers: Record<string, string | string[]>,
  method: string,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: '127.0.0.1', port, path, method, headers, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        body += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }))
    })
    outgoing.on('error', reject)
    outgoing.end()
  })
}
