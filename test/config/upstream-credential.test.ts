import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { stringify } from 'yaml'
import { loadConfig } from '../../src/config/load.ts'
import { ConfigError } from '../../src/config/problems.ts'
import { listSettings } from '../../src/config/show.ts'
import type { Certificates } from '../support/certificates.ts'
import { makeCertificates } from '../support/certificates.ts'

describe('the credential of an upstream, as configured', () => {
  let folder: string
  const environment = { CLIENT_SECRET: 's3cret-of-the-client' }

  beforeEach(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'gateway-config-')))
    writeFileSync(join(folder, 'token'), 'abc\n')
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  function load(upstream: object) {
    const github = { url: 'https://mcp.example.com/', ...upstream }
    writeFileSync(join(folder, 'gateway.yaml'), stringify({ upstreams: { github } }))
    return loadConfig({ environment, cwd: folder })
  }

  function problemsOf(upstream: object): readonly string[] {
    try {
      load(upstream)
    } catch (error) {
      if (error instanceof ConfigError)
        return error.problems.map(({ path, message }) => `${path}: ${message}`)
      throw error
    }
    return []
  }

  const oauth = (parts: object = {}) => ({
    credential: {
      oauth: {
        token_url: 'https://login.example.com/token',
        client_id: 'gateway',
        client_secret: '${CLIENT_SECRET}',
        ...parts,
      },
    },
  })

  it('is a token in a file beside the configuration', () => {
    const { config } = load({ credential: { token_file: './token' } })
    expect(config.upstreams['github']?.credential).to.deep.equal({
      kind: 'token_file',
      file: join(folder, 'token'),
      header: 'authorization',
      scheme: 'Bearer',
    })
    const own = load({ credential: { token_file: './token', header: 'X-API-Key', scheme: null } }).config
    expect(own.upstreams['github']?.credential).to.include({ header: 'x-api-key', scheme: null })
  })

  it('is had by client credentials for the upstream, unless told otherwise', () => {
    const { config } = load(oauth({ scopes: ['a', 'b'], parameters: { audience: 'x' } }))
    expect(config.upstreams['github']?.credential).to.deep.equal({
      kind: 'client_credentials',
      tokenUrl: 'https://login.example.com/token',
      clientId: 'gateway',
      proof: { kind: 'secret', secret: 's3cret-of-the-client', method: 'client_secret_basic' },
      scopes: ['a', 'b'],
      resource: 'upstream',
      parameters: { audience: 'x' },
    })
    const silent = load(oauth({ resource: null })).config.upstreams['github']?.credential
    expect(silent).to.include({ resource: null })
    const key = { client_secret: null, private_key_file: './token', key_id: 'k1' }
    expect(load(oauth(key)).config.upstreams['github']?.credential).to.deep.include({
      proof: { kind: 'private_key', file: join(folder, 'token'), keyId: 'k1', audience: null },
    })
  })

  it('is not shown', () => {
    const shown = JSON.stringify(listSettings(load(oauth())))
    expect(shown).to.contain('${CLIENT_SECRET}').and.not.contain('s3cret')
  })

  const token = { token_file: './token' }
  const mistakes: Record<string, [object, string]> = {
    'neither a file nor OAuth': [{ credential: {} }, 'credential: must hold either token_file or oauth'],
    'both of them': [
      { credential: { ...token, ...oauth().credential } },
      'credential: must hold either token_file or oauth',
    ],
    'a file that is not there': [
      { credential: { token_file: './gone' } },
      'credential.token_file: cannot open',
    ],
    'a header that is configured as well': [
      { credential: token, headers: { Authorization: '${CLIENT_SECRET}' } },
      'headers.authorization: is set by the credential as well',
    ],
    'a header that the gateway sets itself': [
      { credential: { ...token, header: 'Mcp-Session-Id' } },
      'credential.header: the gateway sets this header itself',
    ],
    'an upstream that it would reach in the clear': [
      { url: 'http://mcp.example.com/', credential: token },
      'url: would carry a credential in the clear',
    ],
    'a token endpoint that it would reach in the clear': [
      oauth({ token_url: 'http://login.example.com/' }),
      'credential.oauth.token_url: would carry a secret in the clear',
    ],
    'no proof of the client': [
      oauth({ client_secret: null }),
      'credential.oauth.client_id: needs exactly one proof',
    ],
    'two proofs of the client': [
      oauth({ private_key_file: './token' }),
      'credential.oauth.client_id: needs exactly one proof',
    ],
    'a secret in the file': [
      oauth({ client_secret: 'literal' }),
      'credential.oauth.client_secret: a secret written into the file',
    ],
    'a parameter that has a setting': [
      oauth({ parameters: { scope: 'all' } }),
      'credential.oauth.parameters.scope: is not for this place',
    ],
    'a resource that is no URI': [oauth({ resource: 'git hub' }), 'credential.oauth.resource: is not valid'],
    'a scope with a quote': [oauth({ scopes: ['a"b'] }), 'credential.oauth.scopes[0]: is not valid'],
    'a scheme with a line break': [
      { credential: { ...token, scheme: 'Bearer\r\nx:' } },
      'credential.scheme: is not valid',
    ],
    'certificates for plain HTTP': [
      { url: 'http://127.0.0.1/', tls: {} },
      'tls: given for an address without TLS',
    ],
    'a certificate without its key': [
      { tls: { cert_file: './token' } },
      'tls: needs cert_file and key_file together',
    ],
    'an authority that is not PEM': [{ tls: { ca_file: './token' } }, 'tls.ca_file: is not a PEM file'],
  }
  for (const [name, [upstream, expected]] of Object.entries(mistakes)) {
    it(`is refused with ${name}`, () => {
      const problems = problemsOf(upstream)
      expect(problems, problems.join('\n')).to.have.length(1)
      expect(problems[0]).to.contain(`upstreams.github.${expected}`).and.not.contain('s3cret')
    })
  }

  it('may go to loopback without TLS', () => {
    for (const url of ['http://127.0.0.1:9/mcp', 'http://localhost:9/mcp', 'http://[::1]:9/mcp'])
      expect(problemsOf({ url, ...oauth({ token_url: url }) }), url).to.deep.equal([])
    for (const url of ['http://127.0.0.1.example.com/', 'http://localhost.example.com/', 'http://0.0.0.0/'])
      expect(problemsOf({ url, credential: token }), url).to.have.length(1)
  })

  describe('with certificates', () => {
    let made: Certificates
    before(function () {
      const certificates = makeCertificates()
      // Without openssl there is nothing to make certificates with.
      if (certificates === null) this.skip()
      else made = certificates
    })
    after(() => made?.remove())

    it('is checked as a pair', () => {
      const { certFile: cert_file, keyFile: key_file } = made.client('one')
      const ca_file = made.caFile
      expect(load({ tls: { ca_file, cert_file, key_file } }).config.upstreams['github']?.tls).to.deep.equal({
        caFile: ca_file,
        client: { certFile: cert_file, keyFile: key_file },
      })
      const other = made.client('two').keyFile
      expect(problemsOf({ tls: { cert_file, key_file: other } })[0]).to.contain('cannot be used together')
    })
  })
})
