import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request as tlsRequest } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { registerClient } from '@modelcontextprotocol/sdk/client/auth.js'
import { expect } from 'chai'
import { GatewayError } from '../../src/errors.ts'
import type { Exchange, RequestHead } from '../../src/gateway/types.ts'
import { aborted, closeDoors, gate, jsonReply, openDoor, rawClient, rawPost } from './fixtures.ts'

const MAX = 4096

/** Reads the body and echoes its size; refusals are answered with their kind. */
async function echoSpine(exchange: Exchange): Promise<void> {
  try {
    const body = await exchange.readBody(MAX)
    await exchange.finish(jsonReply({ bytes: body.length, mount: exchange.head.mount }))
  } catch (error) {
    const kind = error instanceof GatewayError ? error.kind : String(error)
    await exchange.finish(jsonReply({ kind }, kind === 'body_too_large' ? 413 : 400))
  }
}

describe('the front door', () => {
  afterEach(closeDoors)

  it('hands every method on /mcp/<upstream> to the spine with the head as it came', async () => {
    const heads: RequestHead[] = []
    const { url } = await openDoor(async (exchange) => {
      heads.push(exchange.head)
      await exchange.finish(jsonReply({ ok: true }))
    })
    for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'HEAD']) {
      const answer = await fetch(`${url}/mcp/git-hub.2?x=1`, { method, headers: { 'X-Thing': 'A' } })
      expect(answer.status).to.equal(200)
      await answer.arrayBuffer()
    }
    expect(heads.map((head) => head.httpMethod)).to.deep.equal([
      ...['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'HEAD'],
    ])
    expect(heads[0]?.mount).to.equal('git-hub.2')
    expect(heads[0]?.peer).to.equal('127.0.0.1')
    expect(heads[0]?.headers['x-thing']).to.equal('A')
    expect(heads[0]?.rawHeaders).to.include('X-Thing')
  })

  it('hands /mcp to the spine as the mount of all upstreams', async () => {
    const mounts: string[] = []
    const { url } = await openDoor(async (exchange) => {
      mounts.push(exchange.head.mount)
      await exchange.finish(jsonReply({ ok: true }))
    })
    expect((await fetch(`${url}/mcp`)).status).to.equal(200)
    expect((await fetch(`${url}/mcp?x=1`, { method: 'POST' })).status).to.equal(200)
    expect(mounts).to.deep.equal(['*', '*'])
  })

  describe('paths that are no mount', () => {
    const paths = [
      '/',
      '/mcp/',
      '/mcp/*',
      '/mcp/a/b',
      '/mcp/a/',
      '/MCP/a',
      '/mcp/a%00b',
      '/mcp/a%2Fb',
      '/x',
      '/mcp//a',
    ]
    for (const path of paths) {
      it(`answers ${path} with 404 and leaves the spine alone`, async () => {
        let attempts = 0
        const { url } = await openDoor(async () => {
          attempts += 1
        })
        const answer = await fetch(url + path)
        expect(answer.status).to.equal(404)
        expect(await answer.json()).to.deep.equal({ code: 1404, message: 'Not Found' })
        expect(answer.headers.get('x-request-id')).to.equal('outside-1')
        expect(answer.headers.get('x-content-type-options')).to.equal('nosniff')
        expect(answer.headers.get('cache-control')).to.equal('no-store')
        expect(answer.headers.get('x-powered-by')).to.equal(null)
        expect(attempts).to.equal(0)
      })
    }

    it('answers a path that cannot be decoded with 400', async () => {
      const { url, logged } = await openDoor(echoSpine)
      const answer = await fetch(`${url}/mcp/%ff`)
      expect(answer.status).to.equal(400)
      expect(await answer.json()).to.deep.equal({ code: 1400, message: 'Bad Request' })
      expect(logged).to.have.length(1)
    })

    it('tells a client that tries OAuth after a refused key what was refused', async () => {
      const { url } = await openDoor(echoSpine)
      const clientMetadata = { redirect_uris: ['http://localhost/callback'] }
      const refused = await registerClient(new URL(url), { clientMetadata }).catch(String)
      expect(refused).to.contain('The key was refused').and.not.contain('Invalid OAuth error response')
    })

    it('answers a request target in absolute form with 404', async () => {
      const { address } = await openDoor(echoSpine)
      const client = await rawClient(
        address,
        'GET http://evil.example/mcp/github HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
      )
      expect(await client.closed()).to.match(/^HTTP\/1\.1 404 /)
    })

    it('does not read the body of what it refuses', async () => {
      const { address } = await openDoor(echoSpine)
      const client = await rawClient(
        address,
        'POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc',
      )
      expect(await client.closed()).to.match(/^HTTP\/1\.1 404 [\s\S]*connection: close/i)
    })
  })

  describe('bytes that are no request', () => {
    const cases: readonly (readonly [string, string, number])[] = [
      ['garbage', 'hello\r\n\r\n', 400],
      ['two Content-Length headers', rawPost('{}', ['Content-Length: 3']), 400],
      ['Content-Length beside chunked', rawPost('{}', ['Transfer-Encoding: chunked']), 400],
      ['a negative Content-Length', 'POST /mcp/a HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n', 400],
      ['a space before the colon', 'GET /mcp/a HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n', 400],
      ['a bare line feed', 'GET /mcp/a HTTP/1.1\nHost: a\n\n', 400],
      ['NUL in a header', 'GET /mcp/a HTTP/1.1\r\nHost: a\r\nX: a\u0000b\r\n\r\n', 400],
      ['a head of 20 kB', `GET /mcp/a HTTP/1.1\r\nHost: a\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`, 431],
    ]
    for (const [name, bytes, status] of cases) {
      it(`answers ${name} with ${status} and closes`, async () => {
        let attempts = 0
        const { address } = await openDoor(async (exchange) => {
          attempts += 1
          await exchange.finish(jsonReply({}))
        })
        const client = await rawClient(address, bytes)
        const answer = await client.closed()
        expect(answer).to.match(new RegExp(`^HTTP/1\\.1 ${status} `))
        expect(attempts).to.equal(0)
        expect(answer).to.match(/x-request-id: outside-1/i)
        expect(answer).to.match(/x-content-type-options: nosniff/i)
      })
    }

    it('refuses more headers than allowed instead of dropping some', async () => {
      const { address } = await openDoor(echoSpine)
      const many = Array.from({ length: 101 }, (_, index) => `X-${index}: 1`)
      const client = await rawClient(address, rawPost('{}', many))
      expect(await client.closed()).to.match(/^HTTP\/1\.1 431 /)
    })

    it('cuts a connection whose headers come too slowly', async () => {
      const { address } = await openDoor(echoSpine, { headersTimeoutMs: 60, timeoutCheckMs: 20 })
      const client = await rawClient(address, 'POST /mcp/a HTTP/1.1\r\nHost: a\r\nX-Slow: ')
      const answer = await client.closed()
      expect(answer).to.match(/^HTTP\/1\.1 408 /)
    })

    it('cuts a connection that never says anything', async () => {
      const { address } = await openDoor(echoSpine, { headersTimeoutMs: 60, timeoutCheckMs: 20 })
      await (await rawClient(address)).closed()
    })

    it('ignores CONNECT and answers an upgrade as an ordinary request', async () => {
      const { address } = await openDoor(
        async (exchange) => await exchange.finish(jsonReply({ plain: true })),
      )
      const connecting = await rawClient(address, 'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n')
      expect(await connecting.closed()).to.equal('')
      const upgrading = await rawClient(
        address,
        'GET /mcp/a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
      )
      expect(await upgrading.until(/plain/)).to.match(/^HTTP\/1\.1 200 /)
      upgrading.socket.destroy()
    })
  })

  describe('bodies', () => {
    it('reads one with Content-Length and one in chunks', async () => {
      const { address } = await openDoor(echoSpine)
      const client = await rawClient(address, rawPost('{"a":1}'))
      await client.until(/"bytes":7/)
      client.socket.write(
        'POST /mcp/github HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n',
      )
      await client.until(/"bytes":5/)
      client.socket.destroy()
    })

    it('reads one that comes byte by byte', async () => {
      const { address } = await openDoor(echoSpine)
      const bytes = rawPost('{"a":1}')
      const client = await rawClient(address)
      client.socket.setNoDelay(true)
      for (const byte of bytes) {
        client.socket.write(byte)
        await new Promise((resolve) => setImmediate(resolve))
      }
      await client.until(/"bytes":7/)
      client.socket.destroy()
    })

    it('refuses a declared size before reading, and closes', async () => {
      const { address } = await openDoor(echoSpine)
      const client = await rawClient(
        address,
        'POST /mcp/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5242880\r\n\r\n',
      )
      const answer = await client.until(/body_too_large/)
      expect(answer).to.match(/^HTTP\/1\.1 413 [\s\S]*connection: close/i)
      client.socket.destroy()
    })

    it('lets an ordinary client that sends 5 MB read the refusal', async () => {
      const { url } = await openDoor(echoSpine)
      const answer = await fetch(`${url}/mcp/a`, { method: 'POST', body: Buffer.alloc(5 * 1024 * 1024, 'x') })
      expect(answer.status).to.equal(413)
      expect(await answer.json()).to.deep.equal({ kind: 'body_too_large' })
    })

    it('stops reading chunks beyond the bound and cuts a client that goes on for ever', async () => {
      const { address } = await openDoor(echoSpine)
      const client = await rawClient(
        address,
        'POST /mcp/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n',
      )
      const chunk = `4000\r\n${'x'.repeat(0x4000)}\r\n`
      const pump = () => {
        while (!client.socket.destroyed && client.socket.write(chunk)) {
          // until the kernel takes no more
        }
      }
      client.socket.on('drain', pump)
      pump()
      expect(await client.closed()).to.match(/^HTTP\/1\.1 413 [\s\S]*body_too_large/)
    })

    it('answers garbage between chunks by closing, and the spine sees a client that left', async () => {
      const ended = gate<unknown>()
      const { address } = await openDoor(async (exchange) => {
        ended.open(await exchange.readBody(MAX).catch((error: unknown) => error))
        await exchange.finish(jsonReply({}))
      })
      const client = await rawClient(
        address,
        'POST /mcp/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n',
      )
      await client.closed()
      expect(await ended.promise)
        .to.be.instanceOf(GatewayError)
        .with.property('kind', 'client_closed')
    })

    it('refuses a body that stalls', async () => {
      const { address } = await openDoor(echoSpine, { bodyTimeoutMs: 50 })
      const client = await rawClient(
        address,
        'POST /mcp/a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc',
      )
      expect(await client.until(/invalid_request/)).to.match(/^HTTP\/1\.1 400 [\s\S]*connection: close/i)
      client.socket.destroy()
    })

    it('sees a client that leaves in the middle', async () => {
      const ended = gate<unknown>()
      const reading = gate()
      const { address } = await openDoor(async (exchange) => {
        reading.open()
        ended.open(await exchange.readBody(MAX).catch((error: unknown) => error))
      })
      const client = await rawClient(
        address,
        'POST /mcp/a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc',
      )
      await reading.promise
      client.socket.destroy()
      expect(await ended.promise).to.have.property('kind', 'client_closed')
    })

    it('asks for the body only when it is read', async () => {
      const asked = gate()
      const { address } = await openDoor(async (exchange) => {
        await asked.promise
        await echoSpine(exchange)
      })
      const client = await rawClient(
        address,
        'POST /mcp/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n',
      )
      await new Promise((resolve) => setImmediate(resolve))
      expect(client.text()).to.equal('')
      asked.open()
      await client.until(/^HTTP\/1\.1 100 Continue\r\n\r\n/)
      client.socket.write('abc')
      await client.until(/"bytes":3/)
      client.socket.destroy()
    })

    it('peeks at a small body that has arrived and never waits for one that has not', async () => {
      const peeks: (number | null)[] = []
      const { address } = await openDoor(async (exchange) => {
        const body = await exchange.peekBody(16)
        peeks.push(body === null ? null : body.length)
        await exchange.finish(jsonReply({ peeked: peeks.length }, 401))
      })
      const small = await rawClient(address, rawPost('{"a":1}'))
      await small.until(/"peeked":1/)
      small.socket.write(rawPost('x'.repeat(17)))
      await small.until(/"peeked":2/)
      const slow = await rawClient(
        address,
        'POST /mcp/a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc',
      )
      await slow.until(/"peeked":3/)
      const none = await rawClient(address, 'GET /mcp/a HTTP/1.1\r\nHost: a\r\n\r\n')
      await none.until(/"peeked":4/)
      expect(peeks).to.deep.equal([7, null, null, null])
      for (const client of [small, slow, none]) client.socket.destroy()
    })

    it('reads what it has peeked at', async () => {
      const { address } = await openDoor(async (exchange) => {
        await exchange.peekBody(100)
        await echoSpine(exchange)
      })
      const client = await rawClient(address, rawPost('{"a":1}'))
      await client.until(/"bytes":7/)
      client.socket.destroy()
    })
  })

  describe('connections', () => {
    it('answers pipelined requests in order, however long each takes', async () => {
      const first = gate()
      let seen = 0
      const { address } = await openDoor(async (exchange) => {
        seen += 1
        const mine = seen
        if (mine === 1) await first.promise
        await exchange.finish(jsonReply({ mine }))
        if (mine === 2) first.open()
      })
      const client = await rawClient(address, rawPost('{}') + rawPost('{}'))
      const answer = await client.until(/"mine":2/)
      expect(answer.indexOf('"mine":1')).to.be.lessThan(answer.indexOf('"mine":2'))
      client.socket.destroy()
    })

    it('cuts a client that pipelines without bound', async () => {
      let seen = 0
      const { address } = await openDoor(
        async (exchange) => {
          seen += 1
          await aborted(exchange.signal)
        },
        { maxPipelined: 4 },
      )
      const client = await rawClient(address, rawPost('{}').repeat(50))
      await client.closed()
      expect(seen).to.be.at.most(4)
    })

    it('tells every pipelined exchange that its client has gone', async () => {
      const bothSeen = gate()
      const gone: number[] = []
      const bothGone = gate()
      let seen = 0
      const { address } = await openDoor(async (exchange) => {
        seen += 1
        const mine = seen
        if (seen === 2) bothSeen.open()
        await aborted(exchange.signal)
        gone.push(mine)
        if (gone.length === 2) bothGone.open()
      })
      const client = await rawClient(address, rawPost('{}') + rawPost('{}'))
      await bothSeen.promise
      client.socket.destroy()
      await bothGone.promise
      expect(gone).to.have.members([1, 2])
    })

    it('takes a half-closed connection for a client that has gone', async () => {
      const gone = gate()
      const seen = gate()
      const { address } = await openDoor(async (exchange) => {
        seen.open()
        await aborted(exchange.signal)
        gone.open()
      })
      const client = await rawClient(address, rawPost('{}'))
      await seen.promise
      client.socket.end()
      await gone.promise
    })

    it('unfolds no header into a credential of two lines', async () => {
      const heads: RequestHead[] = []
      const { address } = await openDoor(async (exchange) => {
        heads.push(exchange.head)
        await exchange.finish(jsonReply({ done: 1 }))
      })
      const client = await rawClient(address, rawPost('{}', ['Authorization: Bearer a', ' b']))
      await client.until(/^HTTP\/1\.1 \d+/)
      client.socket.destroy()
      // Either the parser refuses it, or the value keeps its space and is no token68.
      for (const head of heads) expect(head.headers['authorization']).to.match(/^Bearer a\s+b$/)
    })

    it('logs a spine that breaks its word and cuts the connection', async () => {
      const { address, logged } = await openDoor(async () => {
        throw new Error('broken')
      })
      const client = await rawClient(address, rawPost('{}'))
      expect(await client.closed()).to.equal('')
      expect(logged).to.deep.equal(['error an attempt failed outside the spine'])
    })
  })

  describe('closing', () => {
    it('lets an exchange finish within the grace period, and accepts nobody new', async () => {
      const seen = gate()
      const finish = gate()
      const { door, address } = await openDoor(async (exchange) => {
        seen.open()
        await finish.promise
        await exchange.finish(jsonReply({ late: true }))
      })
      const client = await rawClient(address, rawPost('{}'))
      await seen.promise
      const closing = door.close(60_000)
      const late = await fetch(`http://127.0.0.1:${address.port}/mcp/a`).catch(() => 'refused')
      expect(late).to.equal('refused')
      finish.open()
      await closing
      expect(await client.closed()).to.match(/connection: close[\s\S]*"late":true/i)
    })

    it('waits for no connection on which nothing was asked', async () => {
      const { door, address } = await openDoor(async (exchange) => exchange.finish(jsonReply({})))
      const silent = await rawClient(address)
      const slow = await rawClient(address, 'POST /mcp/a HTTP/1.1\r\nHost: local')
      const used = await rawClient(address, rawPost('{}'))
      await used.until(/^HTTP\/1\.1 200/)
      const grace = 60_000
      await door.close(grace)
      expect(await Promise.all([silent.closed(), slow.closed()])).to.deep.equal(['', ''])
      await used.closed()
    })

    it('aborts what is left when the grace period is over, and waits until it has been recorded', async () => {
      const seen = gate()
      let recorded = false
      const { door, address } = await openDoor(async (exchange) => {
        seen.open()
        await aborted(exchange.signal)
        await new Promise((resolve) => setTimeout(resolve, 20))
        recorded = true
      })
      const client = await rawClient(address, rawPost('{}'))
      await seen.promise
      await door.close(10)
      expect(recorded).to.equal(true)
      await client.closed()
    })

    it('closes a connection as soon as its stream has ended', async () => {
      const opened = gate()
      const end = gate()
      const { door, address } = await openDoor(async (exchange) => {
        exchange.open({ status: 200, headers: {} })
        opened.open()
        await end.promise
        await exchange.finish(jsonReply({}))
      })
      const client = await rawClient(address, rawPost('{}'))
      await opened.promise
      const closing = door.close(60_000)
      end.open()
      await closing
      await client.closed()
    })

    it('closes idle connections at once', async () => {
      const { door, address } = await openDoor(echoSpine)
      const client = await rawClient(address, rawPost('{}'))
      await client.until(/"bytes":2/)
      await door.close(60_000)
      await client.closed()
    })
  })

  it('closes connections beyond its bound as soon as they are made, and takes new ones when there is room', async () => {
    const { address } = await openDoor(echoSpine, { maxConnections: 2 })
    const first = await rawClient(address, rawPost('{}'))
    await first.until(/"bytes":2/)
    const second = await rawClient(address, rawPost('{}'))
    await second.until(/"bytes":2/)
    const third = await rawClient(address, rawPost('{}'))
    expect(await third.closed()).to.equal('')
    first.socket.destroy()
    await first.closed()
    for (let at = 0; at < 100; at += 1) {
      const next = await rawClient(address, rawPost('{}'))
      const isServed = await next.until(/"bytes":2/).then(
        () => true,
        () => false,
      )
      if (isServed) return
    }
    expect.fail('no room was made')
  })

  it('rejects when the address is taken', async () => {
    const { address } = await openDoor(echoSpine)
    const { createFrontDoor } = await import('../../src/http/server.ts')
    const second = createFrontDoor({
      spine: echoSpine,
      newRequestId: () => 'x',
      log: { debug: () => undefined, error: () => undefined },
    })
    const error = await second.listen('127.0.0.1', address.port).catch((thrown: unknown) => thrown)
    expect(error).to.have.property('code', 'EADDRINUSE')
  })

  it('speaks TLS when it has a certificate', async function () {
    const folder = mkdtempSync(join(tmpdir(), 'gateway-tls-'))
    const certFile = join(folder, 'cert.pem')
    const keyFile = join(folder, 'key.pem')
    try {
      execFileSync(
        'openssl',
        [
          ...[
            'req',
            '-x509',
            '-newkey',
            'ec',
            '-pkeyopt',
            'ec_paramgen_curve:prime256v1',
            '-nodes',
            '-days',
            '1',
          ],
          ...['-subj', '/CN=localhost', '-keyout', keyFile, '-out', certFile],
        ],
        { stdio: 'ignore' },
      )
    } catch {
      rmSync(folder, { recursive: true })
      this.skip()
    }
    try {
      const { address } = await openDoor(echoSpine, {}, { certFile, keyFile })
      const status = await new Promise((resolve, reject) => {
        const call = tlsRequest(
          { port: address.port, path: '/mcp/a', method: 'POST', rejectUnauthorized: false, agent: false },
          (answer) => answer.resume().on('end', () => resolve(answer.statusCode)),
        )
        call.on('error', reject).end('{}')
      })
      expect(status).to.equal(200)
      const plain = await rawClient(address, rawPost('{}'))
      expect(await plain.closed()).to.not.contain('200')
      const impatient = await openDoor(echoSpine, { tlsHandshakeTimeoutMs: 100 }, { certFile, keyFile })
      const silent = await rawClient(impatient.address)
      expect(await silent.closed(), 'a handshake that never begins').to.equal('')
    } finally {
      writeFileSync(keyFile, '')
      rmSync(folder, { recursive: true })
    }
  })
})
