import { once } from 'node:events'
import { copyFileSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { expect } from 'chai'
import type { TlsFiles } from '../../src/upstream/connections.ts'
import type { Certificates } from '../support/certificates.ts'
import { makeCertificates } from '../support/certificates.ts'
import { callOf, forwarderTo, recordingSink } from './call-fixture.ts'

const never = new AbortController().signal

/** An upstream that lets nobody in without a certificate of the authority, and answers with the name in it. */
async function startMutualTls({ caFile, server: own }: Certificates) {
  const names: string[] = []
  const server = createServer(
    {
      ca: readFileSync(caFile),
      cert: readFileSync(own.certFile),
      key: readFileSync(own.keyFile),
      requestCert: true,
      rejectUnauthorized: true,
    },
    (request, response) => {
      names.push(String((request.socket as TLSSocket).getPeerCertificate().subject.CN))
      request.resume().on('end', () => {
        response.writeHead(200, { 'content-type': 'application/json', connection: 'close' })
        response.end('{"jsonrpc":"2.0","id":1,"result":{"content":[]}}')
      })
    },
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`,
    names,
    close: async () => {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

describe('the connections to an upstream', () => {
  let certificates: Certificates
  let upstream: Awaited<ReturnType<typeof startMutualTls>>
  const open: { close(): Promise<void> }[] = []
  let now = 0

  before(async function () {
    const made = makeCertificates()
    if (made === null) {
      // Without openssl there is nothing to make certificates with.
      this.skip()
      return
    }
    certificates = made
    upstream = await startMutualTls(certificates)
  })
  after(async () => {
    await upstream?.close()
    certificates?.remove()
  })
  afterEach(async () => {
    now = 0
    upstream.names.length = 0
    for (const one of open.splice(0)) await one.close()
  })

  function start(tls: TlsFiles | null) {
    const clock = { nowMs: () => now, monotonicMs: () => now }
    const forwarder = forwarderTo(upstream.url, { tls, clock })
    open.push(forwarder)
    /** null = it was answered; else what an operator is told. */
    return async (): Promise<string | null> => {
      try {
        const answer = await forwarder.forward(callOf(), recordingSink(), never)
        expect(answer.report.status).to.equal(200)
        return null
      } catch (thrown) {
        expect(thrown).to.include({ kind: 'upstream_failed', message: 'Upstream failed' })
        return String((thrown as { detail: unknown }).detail)
      }
    }
  }

  it('show the certificate of the gateway, and believe the authority that is configured', async () => {
    const call = start({ caFile: certificates.caFile, client: certificates.client('gateway') })
    expect(await call()).to.equal(null)
    expect(upstream.names).to.deep.equal(['gateway'])
  })

  it('are not made to an upstream that nobody vouches for, whatever the environment says', async () => {
    const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED']
    process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'
    try {
      expect(await start(null)()).to.match(/SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_VERIFY/)
      const client = certificates.client('stranger')
      expect(await start({ caFile: null, client })()).to.match(/SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_VERIFY/)
    } finally {
      if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']
      else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = before
    }
    expect(upstream.names).to.deep.equal([])
  })

  it('fail without a certificate where one is asked for', async () => {
    expect(await start({ caFile: certificates.caFile, client: null })()).to.be.a('string')
    expect(upstream.names).to.deep.equal([])
  })

  it('take a replaced certificate without a restart, and keep the old pair while only one file is new', async () => {
    const files = {
      certFile: join(certificates.folder, 'current-cert.pem'),
      keyFile: join(certificates.folder, 'current-key.pem'),
    }
    const old = certificates.client('old')
    const fresh = certificates.client('fresh')
    const put = (from: string, to: string) => {
      copyFileSync(from, `${to}.new`)
      renameSync(`${to}.new`, to)
    }
    put(old.certFile, files.certFile)
    put(old.keyFile, files.keyFile)
    const call = start({ caFile: certificates.caFile, client: files })
    expect(await call()).to.equal(null)
    put(fresh.certFile, files.certFile)
    now = 1000
    expect(await call()).to.equal(null)
    put(fresh.keyFile, files.keyFile)
    now = 2000
    expect(await call()).to.equal(null)
    expect(upstream.names).to.deep.equal(['old', 'old', 'fresh'])
  })

  it('say which files cannot be used, without what is in them', async () => {
    const { keyFile } = certificates.client('mixed')
    const { certFile } = certificates.client('other')
    const { caFile } = certificates
    expect(await start({ caFile, client: { certFile, keyFile } })())
      .to.contain(certFile)
      .and.contain('MISMATCH')
    const broken = join(certificates.folder, 'broken.pem')
    writeFileSync(broken, 's3cret')
    const told = await start({ caFile, client: { certFile, keyFile: broken } })()
    expect(told).to.contain(broken).and.not.contain('s3cret')
    const gone = await start({ caFile, client: { certFile, keyFile: `${broken}.gone` } })()
    expect(gone).to.equal(`cannot read ${broken}.gone (ENOENT)`)
    expect(upstream.names).to.deep.equal([])
  })
})
