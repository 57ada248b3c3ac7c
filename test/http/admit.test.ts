import { expect } from 'chai'
import { GatewayError } from '../../src/errors.ts'
import { canonicalAddress, createClientAddress } from '../../src/http/address.ts'
import { admitHead } from '../../src/http/admit.ts'
import { createHostList, createOriginList } from '../../src/http/site.ts'
import { headOf } from './fixtures.ts'

const options = {
  isAllowedHost: createHostList(['mcp.example.com', '127.0.0.1:8080', '[::1]']),
  isAllowedOrigin: createOriginList(['https://app.example.com', 'http://localhost:*']),
  clientAddress: createClientAddress(['127.0.0.1', '10.0.0.0/8']),
}

function admit(headers: Record<string, string>, rawHeaders?: readonly string[]) {
  return admitHead(headOf('POST', { host: 'mcp.example.com', ...headers }, rawHeaders), options)
}

function kindOf(run: () => unknown): string {
  try {
    run()
    return 'admitted'
  } catch (error) {
    return error instanceof GatewayError ? error.kind : String(error)
  }
}

describe('admission', () => {
  const hosts: readonly (readonly [string, string])[] = [
    ['mcp.example.com', 'admitted'],
    ['MCP.Example.com:443', 'admitted'],
    ['mcp.example.com.', 'admitted'],
    ['127.0.0.1:8080', 'admitted'],
    ['[::1]:9', 'admitted'],
    ['127.0.0.1:8081', 'host_refused'],
    ['127.0.0.1', 'host_refused'],
    ['evil.example', 'host_refused'],
    ['mcp.example.com.evil.example', 'host_refused'],
    ['mcp.example.com@evil.example', 'host_refused'],
    ['mcp.example.com:443:443', 'host_refused'],
    ['mcp.example.com, evil.example', 'host_refused'],
    ['', 'host_refused'],
  ]
  for (const [host, verdict] of hosts) {
    it(`Host "${host}": ${verdict}`, () => expect(kindOf(() => admit({ host }))).to.equal(verdict))
  }
  it('a missing Host: host_refused', () => {
    expect(kindOf(() => admitHead(headOf('GET', {}), options))).to.equal('host_refused')
  })

  const origins: readonly (readonly [string, string])[] = [
    ['https://app.example.com', 'admitted'],
    ['https://APP.example.com:443', 'admitted'],
    ['http://localhost', 'admitted'],
    ['http://localhost:5173', 'admitted'],
    ['http://app.example.com', 'origin_refused'],
    ['https://app.example.com:8443', 'origin_refused'],
    ['https://app.example.com.evil.example', 'origin_refused'],
    ['https://evil.example', 'origin_refused'],
    ['https://localhost', 'origin_refused'],
    ['null', 'origin_refused'],
    ['', 'origin_refused'],
    ['*', 'origin_refused'],
  ]
  for (const [origin, verdict] of origins) {
    it(`Origin "${origin}": ${verdict}`, () => expect(kindOf(() => admit({ origin }))).to.equal(verdict))
  }

  it('refuses everything when the lists are empty', () => {
    expect(createHostList([])('localhost')).to.equal(false)
    expect(createOriginList([])('http://localhost')).to.equal(false)
  })

  it('names a malformed entry', () => {
    expect(() => createHostList(['http://x'])).to.throw(RangeError, 'allowed_hosts: "http://x"')
    expect(() => createOriginList(['example.com'])).to.throw(RangeError, 'allowed_origins: "example.com"')
    for (const entry of [
      '10.0.0.0/33',
      '10.0.0/8',
      'x',
      '::/129',
      '10.0.0.1/',
      '10.0.0.1/1/2',
      '10.0.0.1/1.5',
    ]) {
      expect(() => createClientAddress([entry])).to.throw(RangeError, `trusted_proxies: "${entry}"`)
    }
  })

  describe('security headers that stand twice', () => {
    const names = [
      ...[
        'Authorization',
        'x-api-key',
        'HOST',
        'Origin',
        'Content-Type',
        'Content-Length',
        'Transfer-Encoding',
      ],
      ...[
        'Mcp-Session-Id',
        'MCP-Protocol-Version',
        'Mcp-Method',
        'Mcp-Name',
        'Mcp-Param-Region',
        'Last-Event-ID',
      ],
    ]
    for (const name of names) {
      it(`${name}: ambiguous_credentials`, () => {
        const raw = ['Host', 'a', name.toLowerCase(), 'x', name, 'x'].slice(name === 'HOST' ? 2 : 0)
        expect(kindOf(() => admit({}, raw))).to.equal('ambiguous_credentials')
      })
    }
    it('others may', () => {
      expect(
        kindOf(() => admit({}, ['Accept', 'a', 'Accept', 'b', 'X-Thing', '1', 'X-Thing', '2'])),
      ).to.equal('admitted')
    })
  })

  describe('the credential', () => {
    it('is a bearer token, an API key, or none', () => {
      expect(admit({ authorization: 'Bearer abc-._~+/==' }).credential).to.deep.equal({
        scheme: 'bearer',
        secret: 'abc-._~+/==',
      })
      expect(admit({ authorization: 'bEARER  x' }).credential?.secret).to.equal('x')
      expect(admit({ 'x-api-key': 'gwk_1_2' }).credential).to.deep.equal({
        scheme: 'api_key',
        secret: 'gwk_1_2',
      })
      expect(admit({}).credential).to.equal(null)
    })
    it('has no secret when it is malformed, so that nobody is let in by it', () => {
      for (const authorization of [
        '',
        'Bearer',
        'Bearer ',
        'Basic abc',
        'gwk_1_2',
        'Bearer a b',
        'Bearer a,b',
        'Bearer é',
      ]) {
        expect(admit({ authorization }).credential).to.deep.equal({ scheme: 'bearer', secret: '' })
      }
      for (const key of ['', 'a b', 'a\u0001']) {
        expect(admit({ 'x-api-key': key }).credential).to.deep.equal({ scheme: 'api_key', secret: '' })
      }
    })
    it('is refused when there are two kinds', () => {
      expect(kindOf(() => admit({ authorization: 'Bearer a', 'x-api-key': 'a' }))).to.equal(
        'ambiguous_credentials',
      )
      expect(kindOf(() => admit({ authorization: '', 'x-api-key': '' }))).to.equal('ambiguous_credentials')
    })
  })

  describe('the client address', () => {
    const clientAddress = createClientAddress(['127.0.0.1', '10.0.0.0/8', '2001:db8:1::/48'])
    const cases: readonly (readonly [string, string | null, string])[] = [
      ['203.0.113.9', null, '203.0.113.9'],
      ['203.0.113.9', '198.51.100.1', '203.0.113.9'],
      ['127.0.0.1', null, '127.0.0.1'],
      ['127.0.0.1', '198.51.100.1', '198.51.100.1'],
      ['127.0.0.1', '6.6.6.6, 198.51.100.1', '198.51.100.1'],
      ['127.0.0.1', '6.6.6.6, 198.51.100.1, 10.1.2.3', '198.51.100.1'],
      ['127.0.0.1', '10.9.9.9, 10.1.2.3', '10.9.9.9'],
      ['127.0.0.1', '198.51.100.1, unknown', '127.0.0.1'],
      ['127.0.0.1', '198.51.100.1, unknown, 10.1.1.1', '10.1.1.1'],
      ['127.0.0.1', '', '127.0.0.1'],
      ['127.0.0.1', '198.51.100.1:4711', '198.51.100.1'],
      ['127.0.0.1', '[2001:DB8::0:1]:4711', '2001:db8::1'],
      ['::ffff:127.0.0.1', '::ffff:c633:6401', '198.51.100.1'],
      ['2001:db8:1::5', '2001:0db8:2:0:0:0:0:1', '2001:db8:2::1'],
      ['fe80::1%eth0', null, 'fe80::1'],
      ['', null, '0.0.0.0'],
    ]
    for (const [peer, forwarded, expected] of cases) {
      it(`${peer || '(unknown)'} forwarding "${forwarded}" is ${expected}`, () => {
        expect(clientAddress(peer, forwarded)).to.equal(expected)
      })
    }
    it('looks at a bounded number of hops', () => {
      expect(clientAddress('127.0.0.1', `6.6.6.6,${Array(100).fill('10.0.0.1').join(',')}`)).to.equal(
        '10.0.0.1',
      )
    })
    it('is never text that is no address', () => {
      for (const text of [
        '1.2.3',
        '1.2.3.4.5',
        'localhost',
        ':::',
        '[::1',
        '1.2.3.4:x',
        '::1:2:3:4:5:6:7:8:9',
        '',
      ]) {
        expect(canonicalAddress(text)).to.equal(null)
      }
    })
    it('reads X-Forwarded-For of the head', () => {
      expect(admit({ 'x-forwarded-for': '198.51.100.7' }).clientIp).to.equal('198.51.100.7')
    })
  })
})
