import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { GatewayError } from '../../src/errors.ts'
import type { ClientCredentialsSettings } from '../../src/upstream/client-credentials.ts'
import type { Credential, CredentialSettings } from '../../src/upstream/credential.ts'
import { createCredential } from '../../src/upstream/credential.ts'
import type { UpstreamSettings } from '../../src/upstream/room.ts'
import { createUpstreams } from '../../src/upstream/room.ts'
import { sharedSchemas } from '../support/schemas.ts'
import type { RawHandler, RawRequest, RawUpstream } from '../support/upstreams.ts'
import { startRawUpstream, startScriptedUpstream } from '../support/upstreams.ts'
import { callOf, clock as realClock, recordingSink, settingsOf } from './call-fixture.ts'

const never = new AbortController().signal
const SECRET = 'cl1ent s3cret/with+odd&characters'

describe('a credential of the gateway for an upstream', () => {
  const open: { close(): Promise<void> }[] = []
  const logged: string[] = []
  let folder = ''
  let now = 0
  const clock = { nowMs: () => now, monotonicMs: () => now }

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'gateway-credential-'))
  })
  after(() => rmSync(folder, { recursive: true }))
  afterEach(async () => {
    logged.length = 0
    now = 0
    for (const one of open.splice(0)) await one.close()
  })

  const log = {
    info: (fields: object, text: string) => void logged.push(JSON.stringify([fields, text])),
    warn: (fields: object, text: string) => void logged.push(JSON.stringify([fields, text])),
  }

  function start(settings: CredentialSettings, timeoutMs = 5000): Credential {
    const url = new URL('https://mcp.example.com/github?tenant=a')
    const parts = { upstream: 'up', settings, url, timeoutMs, clock, random: () => 1, log }
    const credential = createCredential(parts)
    open.push(credential)
    return credential
  }

  async function endpoint(handler: RawHandler): Promise<RawUpstream> {
    const server = await startRawUpstream(handler)
    open.push(server)
    return server
  }

  /** Issues t1, t2, ..; `lifeS` null = does not say how long they live. */
  function issuing(lifeS: number | null = 600): RawHandler {
    let issued = 0
    return (_request, reply) => {
      issued += 1
      const life = lifeS === null ? {} : { expires_in: lifeS }
      reply.json(200, { access_token: `t${issued}`, token_type: 'Bearer', ...life })
    }
  }

  function clientOf(
    server: RawUpstream,
    parts: Partial<ClientCredentialsSettings> = {},
    timeoutMs = 5000,
  ): Credential {
    return start(
      {
        kind: 'client_credentials',
        tokenUrl: server.url,
        clientId: 'gateway:1',
        proof: { kind: 'secret', secret: SECRET, method: 'client_secret_basic' },
        scopes: [],
        resource: null,
        parameters: {},
        ...parts,
      },
      timeoutMs,
    )
  }

  const shown = async (credential: Credential): Promise<string> => (await credential.field()).value

  async function refusalOf(credential: Credential): Promise<GatewayError> {
    const thrown: unknown = await credential.field().catch((error: unknown) => error)
    expect(thrown).to.be.instanceOf(GatewayError)
    expect(thrown).to.include({ kind: 'upstream_failed', message: 'Upstream failed' })
    return thrown as GatewayError
  }

  const formOf = (request: RawRequest | undefined) => new URLSearchParams(request?.body.toString())

  describe('in a file', () => {
    const file = () => join(folder, 'token')
    const fileOf = (parts: object = {}) =>
      start({ kind: 'token_file', file: file(), header: 'authorization', scheme: 'Bearer', ...parts })

    it('is the token of the file, in the header and after the word that are configured', async () => {
      writeFileSync(file(), 'abc\n')
      expect(await fileOf().field()).to.deep.equal({ name: 'authorization', value: 'Bearer abc' })
      const plain = fileOf({ header: 'x-api-key', scheme: null })
      expect(await plain.field()).to.deep.equal({ name: 'x-api-key', value: 'abc' })
    })

    it('is read again after a second, and at once after a 401', async () => {
      writeFileSync(file(), 'old')
      const credential = fileOf()
      const field = await credential.field()
      writeFileSync(`${file()}.new`, 'new')
      renameSync(`${file()}.new`, file())
      now = 999
      expect(await shown(credential)).to.equal('Bearer old')
      now = 1000
      expect(await shown(credential)).to.equal('Bearer new')
      writeFileSync(file(), 'newer')
      credential.rejected(field)
      expect(await shown(credential)).to.equal('Bearer newer')
    })

    it('is not used when the file has gone, is empty, or holds what no header carries', async () => {
      writeFileSync(file(), 'abc')
      const credential = fileOf()
      await credential.field()
      rmSync(file())
      now = 1000
      expect((await refusalOf(credential)).detail).to.equal(`cannot read ${file()} (ENOENT)`)
      writeFileSync(file(), '\n')
      expect((await refusalOf(credential)).detail).to.equal(`${file()} is empty`)
      writeFileSync(file(), 's3cret\r\nx-injected: 1')
      expect((await refusalOf(credential)).detail)
        .to.match(/what a header cannot carry/)
        .and.not.contain('s3cret')
      expect((await refusalOf(fileOf({ file: folder }))).detail).to.equal(`${folder} is not a file`)
    })
  })

  describe('by client credentials', () => {
    it('is asked for as RFC 6749 says, for the resource that is the upstream', async () => {
      const server = await endpoint(issuing())
      const credential = clientOf(server, {
        scopes: ['read', 'write'],
        resource: 'upstream',
        parameters: { audience: 'https://api.example.com' },
      })
      expect(await credential.field()).to.deep.equal({ name: 'authorization', value: 'Bearer t1' })
      const [request] = server.requests
      expect(request?.httpMethod).to.equal('POST')
      expect(request?.headers['content-type']).to.match(/^application\/x-www-form-urlencoded/)
      expect(Object.fromEntries(formOf(request))).to.deep.equal({
        grant_type: 'client_credentials',
        scope: 'read write',
        resource: 'https://mcp.example.com/github',
        audience: 'https://api.example.com',
      })
      const [scheme, basic = ''] = String(request?.headers.authorization).split(' ')
      const [id = '', secret = ''] = Buffer.from(basic, 'base64').toString().split(':')
      const plain = (text: string) => decodeURIComponent(text.replaceAll('+', ' '))
      expect([scheme, plain(id), plain(secret)]).to.deep.equal(['Basic', 'gateway:1', SECRET])
    })

    it('proves the client by a secret in the body, or in a file that is read each time', async () => {
      const server = await endpoint(issuing(0))
      const file = join(folder, 'client-secret')
      writeFileSync(file, 'first\n')
      const credential = clientOf(server, {
        proof: { kind: 'secret_file', file, method: 'client_secret_post' },
      })
      await credential.field()
      writeFileSync(file, 'second\n')
      await credential.field()
      expect(server.requests.map((request) => formOf(request).get('client_secret'))).to.deep.equal([
        'first',
        'second',
      ])
      expect(server.requests[0]?.headers).not.to.have.property('authorization')
    })

    for (const [kind, alg, pair] of [
      ['RSA', 'RS256', generateKeyPairSync('rsa', { modulusLength: 2048 })],
      ['EC', 'ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' })],
    ] as const) {
      it(`proves the client by a JWT signed with an ${kind} key`, async () => {
        const server = await endpoint(issuing())
        const file = join(folder, `${kind}.pem`)
        writeFileSync(file, pair.privateKey.export({ type: 'pkcs8', format: 'pem' }))
        await clientOf(server, {
          proof: { kind: 'private_key', file, keyId: 'k1', audience: null },
        }).field()
        const form = formOf(server.requests[0])
        expect(form.get('client_assertion_type')).to.equal(
          'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        )
        const [head = '', payload = '', signature = ''] = (form.get('client_assertion') ?? '').split('.')
        const read = (part: string): object => JSON.parse(Buffer.from(part, 'base64url').toString())
        expect(read(head)).to.include({ alg, kid: 'k1' })
        expect(read(payload)).to.include({ iss: 'gateway:1', sub: 'gateway:1', aud: server.url })
        const key = createPublicKey(pair.privateKey)
        const ok = verify(
          'sha256',
          Buffer.from(`${head}.${payload}`),
          { key, dsaEncoding: 'ieee-p1363' },
          Buffer.from(signature, 'base64url'),
        )
        expect(ok).to.equal(true)
      })
    }

    it('says which file is no private key', async () => {
      const server = await endpoint(issuing())
      const file = join(folder, 'no.pem')
      writeFileSync(file, 'n0 key')
      const credential = clientOf(server, {
        proof: { kind: 'private_key', file, keyId: null, audience: null },
      })
      expect((await refusalOf(credential)).detail)
        .to.contain(file)
        .and.not.contain('n0 key')
      expect(server.count()).to.equal(0)
    })

    it('is asked for once by any number of calls, and kept', async () => {
      const server = await endpoint(issuing())
      const credential = clientOf(server)
      const values = await Promise.all(Array.from({ length: 50 }, () => shown(credential)))
      expect(new Set(values)).to.deep.equal(new Set(['Bearer t1']))
      now = 500_000
      expect(await shown(credential)).to.equal('Bearer t1')
      expect(server.count()).to.equal(1)
    })

    it('is replaced before it ends, while calls still use the old one', async () => {
      const server = await endpoint(issuing(600))
      const credential = clientOf(server)
      await credential.field()
      now = 540_001
      expect(await shown(credential)).to.equal('Bearer t1')
      expect(await shown(credential)).to.equal('Bearer t1')
      await server.waitFor('POST', 1)
      now = 600_000
      expect(await shown(credential)).to.equal('Bearer t2')
      expect(server.count()).to.equal(2)
    })

    it('lives five minutes when nobody says how long, and a day at the most', async () => {
      const silent = clientOf(await endpoint(issuing(null)))
      await silent.field()
      now = 299_999
      expect(await shown(silent)).to.equal('Bearer t1')
      now = 300_000
      expect(await shown(silent)).to.equal('Bearer t2')
      now = 0
      const endless = clientOf(await endpoint(issuing(1e9)))
      await endless.field()
      now = 86_400_000
      expect(await shown(endless)).to.equal('Bearer t2')
    })

    it('is forgotten once after a 401, not with every call', async () => {
      const server = await endpoint(issuing())
      const credential = clientOf(server)
      const first = await credential.field()
      credential.rejected(first)
      const second = await credential.field()
      expect(second.value).to.equal('Bearer t2')
      // Of a call that was under way with the old one.
      now = 60_000
      credential.rejected(first)
      expect(await credential.field()).to.equal(second)
      now = 10_000
      credential.rejected(second)
      expect(await credential.field()).to.equal(second)
      now = 30_000
      credential.rejected(second)
      expect(await shown(credential)).to.equal('Bearer t3')
    })

    it('is not asked for again and again while the endpoint refuses; then it recovers', async () => {
      let works = false
      const server = await endpoint((request, reply) =>
        works ? issuing()(request, reply) : reply.json(401, { error: 'invalid_client' }),
      )
      const credential = clientOf(server)
      const error = await refusalOf(credential)
      expect(error.detail).to.equal('the token endpoint refused the client (401 invalid_client)')
      expect(await refusalOf(credential)).to.equal(error)
      expect(server.count()).to.equal(1)
      for (const [at, asked] of [
        [499, 1],
        [500, 2],
        [1499, 2],
        [1500, 3],
      ] as const) {
        now = at
        await refusalOf(credential)
        expect(server.count(), `at ${at} ms`).to.equal(asked)
      }
      for (let failures = 0; failures < 10; failures += 1) {
        now += 30_000
        await refusalOf(credential)
      }
      expect(server.count()).to.equal(13)
      works = true
      now += 30_000
      expect(await shown(credential)).to.equal('Bearer t1')
      expect(logged).to.have.length(2)
      expect(logged[0]).to.contain('no access token').and.contain('invalid_client')
      expect(logged[1]).to.contain('issued again')
    })

    it('still serves while a replacement cannot be had', async () => {
      let fails = false
      const server = await endpoint((request, reply) =>
        fails ? reply.json(503, {}) : issuing(100)(request, reply),
      )
      const credential = clientOf(server)
      await credential.field()
      fails = true
      now = 90_000
      expect(await shown(credential)).to.equal('Bearer t1')
      await server.waitFor('POST', 1)
      now = 99_999
      expect(await shown(credential)).to.equal('Bearer t1')
      now = 140_000
      expect((await refusalOf(credential)).detail).to.equal('the token endpoint answered 503')
    })

    const hostile: Record<string, [RawHandler, RegExp]> = {
      'a redirect': [
        (_, reply) => reply.send(302, '', { location: 'http://169.254.169.254/' }),
        /a redirect 302/,
      ],
      'too much': [(_, reply) => reply.send(200, 'x'.repeat(70_000)), /more than 65536 bytes/],
      'no JSON': [(_, reply) => reply.send(200, 'T0KEN'), /not a token/],
      'an array': [(_, reply) => reply.json(200, ['T0KEN']), /not a token/],
      'no token': [(_, reply) => reply.json(200, { token_type: 'bearer' }), /not a token/],
      'a token that is no text': [
        (_, reply) => reply.json(200, { access_token: { a: 'T0KEN' }, token_type: 'bearer' }),
        /not a token/,
      ],
      'a token of another type': [
        (_, reply) => reply.json(200, { access_token: 'T0KEN', token_type: 'DPoP' }),
        /not a bearer token/,
      ],
      'a token of an unknown type': [
        (_, reply) => reply.json(200, { access_token: 'T0KEN', token_type: 'mac' }),
        /not a token/,
      ],
      'a token that injects a header': [
        (_, reply) => reply.json(200, { access_token: 'T0KEN\r\nx: y', token_type: 'bearer' }),
        /cannot carry/,
      ],
      'a lifetime below zero': [
        (_, reply) => reply.json(200, { access_token: 'T0KEN', token_type: 'bearer', expires_in: -1 }),
        /not a token/,
      ],
      'an error with our secret in it': [
        (_, reply) => reply.json(400, { error: `T0KEN ${SECRET}`, error_description: SECRET }),
        /\(400 an error of its own\)/,
      ],
      'a challenge': [
        (_, reply) =>
          reply.json(
            401,
            { error: 'invalid_client' },
            {
              'www-authenticate': 'Bearer resource_metadata="http://169.254.169.254/latest"',
            },
          ),
        /401 invalid_client/,
      ],
      'a broken connection': [(_, reply) => reply.die(), /cannot be reached/],
    }
    for (const [name, [handler, expected]] of Object.entries(hostile)) {
      it(`is not taken from an endpoint that answers with ${name}`, async () => {
        const server = await endpoint(handler)
        const error = await refusalOf(clientOf(server))
        expect(error.detail).to.match(expected)
        const told = [error.detail, error.cause, error.stack, ...logged].map(String).join()
        expect(told).not.to.contain('T0KEN')
        expect(told).not.to.contain(SECRET)
        expect(server.count()).to.equal(1)
      })
    }

    const stalling: Record<string, RawHandler> = {
      'says nothing': () => undefined,
      'never ends its answer': (_, reply) => reply.partial(1000, '{"access_token":"T0KEN"'),
    }
    for (const [name, handler] of Object.entries(stalling)) {
      it(`is not waited for without end where the endpoint ${name}`, async () => {
        const credential = clientOf(await endpoint(handler), {}, 50)
        expect((await refusalOf(credential)).detail).to.equal('the token endpoint did not answer in time')
      })
    }
  })

  describe('on its way', () => {
    const tool = { name: 'echo', inputSchema: { type: 'object' } }

    async function both(settings: Partial<UpstreamSettings>, rejects: (request: RawRequest) => boolean) {
      const upstream = await startScriptedUpstream({
        tools: [tool],
        handle: (request, reply) =>
          rejects(request) ? reply.json(401, { error: 'invalid_token' }) : reply.result({ content: [] }),
      })
      const upstreams = createUpstreams({
        schemas: sharedSchemas(),
        upstreams: { up: settingsOf({ url: upstream.url, ...settings }) },
        version: '1.2.3',
        clock: realClock,
        random: () => 0.5,
        log,
      })
      open.push(upstreams, upstream)
      return { upstream, upstreams }
    }

    function oauthTo(server: RawUpstream): CredentialSettings {
      const proof = { kind: 'secret', secret: SECRET, method: 'client_secret_basic' } as const
      const client = { tokenUrl: server.url, clientId: 'gateway', proof }
      return { kind: 'client_credentials', ...client, scopes: [], resource: null, parameters: {} }
    }

    it('is shown with calls and readings of the tools alike, and after a 401 a fresh one with the next call', async () => {
      const issuer = await endpoint(issuing())
      const { upstream, upstreams } = await both(
        { credential: oauthTo(issuer) },
        ({ headers }) => headers.authorization === 'Bearer t1',
      )
      await upstreams.findTool('up', 'echo')
      const refused: unknown = await upstreams
        .forward(callOf(), recordingSink(), never)
        .catch((thrown: unknown) => thrown)
      expect(refused).to.include({ kind: 'upstream_failed', detail: 'it answered 401' })
      // What it refused may have been acted on: it is not sent twice.
      expect(upstream.calls()).to.equal(1)
      const answer = await upstreams.forward(callOf(), recordingSink(), never)
      expect(answer.report.status).to.equal(200)
      expect(issuer.count()).to.equal(2)
      for (const { headers, method } of upstream.requests)
        expect(headers.authorization, method).to.match(/^Bearer t[12]$/)
    })

    it('keeps calls back while there is none, and says why to operators', async () => {
      const issuer = await endpoint((_, reply) => reply.json(400, { error: 'invalid_scope' }))
      const { upstream, upstreams } = await both({ credential: oauthTo(issuer) }, () => false)
      const refused: unknown = await upstreams
        .forward(callOf(), recordingSink(), never)
        .catch((thrown: unknown) => thrown)
      expect(refused).to.include({
        kind: 'upstream_failed',
        message: 'Upstream failed',
        detail: 'the token endpoint refused the client (400 invalid_scope)',
      })
      expect(upstream.count()).to.equal(0)
      const [state] = upstreams.states()
      expect(state?.lastError).to.contain('invalid_scope')
      expect(state?.breaker).to.equal('closed')
    })

    it('takes the place of nothing a caller sent: no header of theirs that could be a credential goes up', async () => {
      const issuer = await endpoint(issuing())
      const { upstream, upstreams } = await both({ credential: oauthTo(issuer) }, () => false)
      const CALLER = 'caller-s3cret'
      const names = [
        ...['authorization', 'proxy-authorization', 'x-api-key', 'api-key', 'cookie', 'cookie2', 'dpop'],
        ...['x-auth-token', 'x-access-token', 'x-forwarded-access-token', 'x-forwarded-user', 'x-id-token'],
        ...['x-forwarded-for', 'x-forwarded-host', 'x-forwarded-client-cert', 'x-real-ip', 'forwarded'],
        ...[
          'x-goog-iap-jwt-assertion',
          'cf-access-jwt-assertion',
          'x-amzn-oidc-data',
          'x-ms-token-aad-id-token',
        ],
        ...[
          'x-amz-security-token',
          'x-vault-token',
          'private-token',
          'x-csrf-token',
          'client-cert',
          'signature',
        ],
        ...[
          'authentication',
          'www-authenticate',
          'x-client-cert',
          'ssl-client-cert',
          'x-original-authorization',
        ],
      ]
      const headers = Object.fromEntries(names.map((name) => [name, CALLER]))
      for (const message of [{}, { era: 'modern', protocolVersion: '2026-07-28' }] as const)
        await upstreams.forward(callOf({ headers, message }), recordingSink(), never)
      expect(upstream.calls()).to.equal(2)
      for (const request of upstream.requests) {
        expect(request.headers.authorization).to.equal('Bearer t1')
        expect(JSON.stringify(request.headers)).not.to.contain(CALLER)
      }
    })
  })
})
