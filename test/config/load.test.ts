import { generateKeyPairSync } from 'node:crypto'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import type { LoadOptions } from '../../src/config/load.ts'
import { loadConfig } from '../../src/config/load.ts'
import type { Problem } from '../../src/config/problems.ts'
import { ConfigError } from '../../src/config/problems.ts'
import { listSettings } from '../../src/config/show.ts'
import { createOriginList } from '../../src/http/site.ts'

const SECRET = 'kq8m2Xw0vQe7Tz4RbN1yLs6Ud9Jh3Gf5PaCoKiMeWxYz'
const UPSTREAM = 'upstreams:\n  github:\n    url: https://mcp.example.com/\n'

describe('configuration', () => {
  let folder: string

  beforeEach(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'gateway-config-')))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  const write = (text: string, name = 'gateway.yaml'): string => {
    writeFileSync(join(folder, name), text)
    return join(folder, name)
  }
  const load = (text: string, options: Omit<LoadOptions, 'cwd'> = {}) => {
    write(text)
    return loadConfig({ environment: {}, ...options, cwd: folder })
  }
  const problemsOf = (text: string, options: Omit<LoadOptions, 'cwd'> = {}): readonly Problem[] => {
    try {
      load(text, options)
    } catch (error) {
      if (error instanceof ConfigError) return error.problems
      throw error
    }
    return []
  }
  const only = (text: string, options: Omit<LoadOptions, 'cwd'> = {}): Problem => {
    const problems = problemsOf(text, options)
    expect(problems, JSON.stringify(problems)).to.have.length(1)
    return problems[0]!
  }

  describe('a good file', () => {
    it('fills in every default', () => {
      const { config } = load(UPSTREAM)
      expect(config.listen).to.deep.equal({ host: '127.0.0.1', port: 8080 })
      expect(config.admin.listen).to.deep.equal({ host: '127.0.0.1', port: 8081 })
      expect(config.policies).to.equal(join(folder, 'policies'))
      expect(config.database).to.deep.equal({ url: null, migrateUrl: null, dataDir: null, binDir: null })
      expect(config.secret).to.equal(null)
      expect(config.auth.anonymous).to.equal(false)
      expect(config.upstreams['github']).to.deep.include({ timeoutMs: 30_000, headers: {}, labels: {} })
      expect(config.audit).to.deep.include({
        enabled: true,
        mode: 'batch',
        onFailure: 'deny',
        spoolDir: null,
      })
      const kept = { payload: 'full', traceEncoding: 'readable', retentionDays: 90, archiveDir: null }
      expect(config.audit).to.deep.include(kept)
    })

    it('fills in what an upstream may take, also in sections that are named in part', () => {
      const { config } = load(
        'upstreams:\n  a:\n    url: http://a/\n    breaker: { failures: 2 }\n    tools: { "run.query": { timeout_ms: 5 }, plain: { audit_payload: metadata } }\n    audit_payload: request\n',
      )
      expect(config.upstreams['a']).to.deep.include({
        timeoutMs: 30_000,
        connectTimeoutMs: 5000,
        idleTimeoutMs: 300_000,
        maxInFlight: 500,
        maxWaitMs: 1000,
        probeIntervalMs: 30_000,
        breaker: { failures: 2, openMs: 30_000 },
        tools: {
          'run.query': { timeoutMs: 5, redact: [], auditPayload: null },
          plain: { timeoutMs: null, redact: [], auditPayload: 'metadata' },
        },
        auditPayload: 'request',
      })
      expect(config.limits.maxDelayMs).to.equal(500)
    })

    it('takes origins with any port, and tells refusals by the status unless asked otherwise', () => {
      const origins = [
        'http://localhost:*',
        'https://app.example.com',
        'http://[::1]:*',
        'https://a.example:8443',
      ]
      const { config } = load(`allowed_origins: ${JSON.stringify(origins)}\n${UPSTREAM}`)
      expect(config.allowedOrigins).to.deep.equal(origins)
      expect(() => createOriginList(config.allowedOrigins)).not.to.throw()
      expect(config.denyAs).to.equal('http')
      expect(load(`deny_as: in_band\n${UPSTREAM}`).config.denyAs).to.equal('in_band')
    })

    it('takes pointers to what no row may hold, into arguments and results alone', () => {
      const withPointers = (...pointers: readonly string[]) =>
        load(
          `upstreams: { a: { url: "http://a/", tools: { t: { redact: ${JSON.stringify(pointers)} } } } }\n`,
        )
      const good = ['/arguments/ssn', '/arguments/a~1b/*/c~0d', '/result', '/result/structuredContent/x']
      expect(withPointers(...good).config.upstreams['a']?.tools['t']?.redact).to.deep.equal(good)
      for (const wrong of [
        'ssn',
        '',
        '/',
        '/ssn',
        '/argumentsx',
        '/arguments/a~2',
        '/principal/id',
        '$.arguments',
      ]) {
        expect(() => withPointers(wrong), wrong).to.throw()
      }
    })

    it('switches bounds off with null, and only where that is meant', () => {
      const upstream =
        'upstreams: { a: { url: "http://a/", max_in_flight: null, probe_interval_ms: null } }\n'
      const { config } = load(`limits: { max_delay_ms: null }\n${upstream}`)
      expect(config.limits.maxDelayMs).to.equal(null)
      expect(config.upstreams['a']).to.deep.include({ maxInFlight: null, probeIntervalMs: null })
    })

    it('refuses times and names that cannot be meant', () => {
      const problem = (settings: string) => only(`upstreams: { a: { url: "http://a/", ${settings} } }`)
      expect(problem('probe_interval_ms: 5').path).to.equal('upstreams.a.probe_interval_ms')
      expect(problem('breaker: { failures: 0 }').path).to.equal('upstreams.a.breaker.failures')
      expect(problem('breaker: { failure: 1 }')).to.include({ hint: 'Did you mean failures?' })
      expect(problem('tools: { t: { timeout_ms: 0 } }').path).to.equal('upstreams.a.tools.t.timeout_ms')
      expect(problem('tools: { t: { timeout_m: 5 } }')).to.include({ hint: 'Did you mean timeout_ms?' })
    })

    it('keeps rows for a while or for ever, but not for less than a day', () => {
      const audit = (settings: string) => load(`${UPSTREAM}audit: { ${settings} }\n`).config.audit
      expect(audit('retention_days: null').retentionDays).to.equal(null)
      expect(audit('archive_dir: old').archiveDir).to.equal(join(folder, 'old'))
      expect(only(`${UPSTREAM}audit: { retention_days: 0 }\n`).path).to.equal('audit.retention_days')
      expect(only(`${UPSTREAM}audit: { payload: none }\n`).path).to.equal('audit.payload')
    })

    it('cannot be changed afterwards', () => {
      const { config } = load(UPSTREAM)
      expect(() => {
        ;(config.audit as { enabled: boolean }).enabled = false
      }).to.throw(TypeError)
      expect(() => {
        ;(config.upstreams as Record<string, unknown>)['x'] = {}
      }).to.throw(TypeError)
    })

    it('takes a section whose lines are all commented out for not set', () => {
      expect(
        load(`limits:\n  # max_in_flight: 5\nallowed_hosts:\n${UPSTREAM}`).config.limits.maxInFlight,
      ).to.equal(1000)
    })

    it('resolves paths from the folder of the file, those of flags and variables from the current folder', () => {
      mkdirSync(join(folder, 'conf'))
      const file = write(`policies: ./rules\n${UPSTREAM}`, 'conf/gateway.yaml')
      const base = { file, cwd: folder, environment: {} }
      expect(loadConfig(base).config.policies).to.equal(join(folder, 'conf/rules'))
      expect(loadConfig({ ...base, flags: { policies: './mine' } }).config.policies).to.equal(
        join(folder, 'mine'),
      )
      const environment = { GATEWAY_POLICIES: 'theirs' }
      expect(loadConfig({ ...base, environment }).config.policies).to.equal(join(folder, 'theirs'))
    })

    it('takes `postgres:` for policies as it is, and the files of keys as paths', () => {
      const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      write(String(publicKey.export({ type: 'spki', format: 'pem' })), 'release.pub.pem')
      write(String(privateKey.export({ type: 'pkcs8', format: 'pem' })), 'release.pem')
      const { config } = load(`policies: "postgres:"\npolicy_keys: [release.pub.pem]\n${UPSTREAM}`)
      expect(config.policies).to.equal('postgres:')
      expect(config.policyKeys).to.deep.equal([join(folder, 'release.pub.pem')])
      expect(load(UPSTREAM, { flags: { policies: 'postgres:' } }).config.policies).to.equal('postgres:')
      expect(only(`policy_keys: [release.pem]\n${UPSTREAM}`).message).to.include('private key')
      expect(only(`policy_keys: [gateway.yaml]\n${UPSTREAM}`).message).to.include('no PEM public key')
      expect(only(`policy_keys: [nowhere.pem]\n${UPSTREAM}`).message).to.include('ENOENT')
    })

    it('accepts `audit.enabled: false`', () => {
      expect(load(`audit: { enabled: false }\n${UPSTREAM}`).config.audit.enabled).to.equal(false)
    })

    it('puts header names into lower case', () => {
      const { config } = load('upstreams: { a: { url: "http://a/", headers: { X-Team: web } } }')
      expect(config.upstreams['a']?.headers).to.deep.equal({ 'x-team': 'web' })
    })
  })

  describe('precedence', () => {
    it('is flag, environment, file, default', () => {
      const text = `policies: ./file\nlog: { level: warn }\n${UPSTREAM}`
      const environment = { GATEWAY_POLICIES: '/env', GATEWAY_LOG_LEVEL: 'debug' }
      expect(load(text).config.log.level).to.equal('warn')
      expect(load(text, { environment }).config.log.level).to.equal('debug')
      expect(load(text, { environment }).config.policies).to.equal('/env')
      expect(load(text, { environment, flags: { policies: '/flag' } }).config.policies).to.equal('/flag')
    })

    it('reads numbers, switches and lists from variables', () => {
      const { config } = load(UPSTREAM, {
        environment: {
          GATEWAY_LIMITS_MAX_IN_FLIGHT: '7',
          GATEWAY_AUDIT_ENABLED: 'false',
          GATEWAY_ALLOWED_HOSTS: 'a.example, b.example:8443',
          GATEWAY_AUTH_MAX_STALE_S: '1.5',
        },
      })
      expect(config.limits.maxInFlight).to.equal(7)
      expect(config.audit.enabled).to.equal(false)
      expect(config.allowedHosts).to.deep.equal(['a.example', 'b.example:8443'])
      expect(config.auth.maxStaleS).to.equal(1.5)
    })

    it('takes an empty variable for not set', () => {
      expect(
        load(UPSTREAM, { environment: { GATEWAY_LISTEN: '', DATABASE_URL: '' } }).config.listen.port,
      ).to.equal(8080)
    })

    it('honours DATABASE_URL, and GATEWAY_DATABASE_URL before it', () => {
      const environment = { DATABASE_URL: 'postgres://one/x', GATEWAY_SECRET: SECRET }
      expect(load(UPSTREAM, { environment }).config.database.url).to.equal('postgres://one/x')
      const both = { ...environment, GATEWAY_DATABASE_URL: 'postgres://two/x' }
      expect(load(UPSTREAM, { environment: both }).config.database.url).to.equal('postgres://two/x')
    })

    it('does not need a variable for a setting that another one overrides', () => {
      const text = `database: { url: "\${DATABASE_URL}" }\n${UPSTREAM}`
      const environment = { GATEWAY_DATABASE_URL: 'postgres://two/x', GATEWAY_SECRET: SECRET }
      expect(load(text, { environment }).config.database.url).to.equal('postgres://two/x')
    })

    it('names the variable as the place of a mistake', () => {
      expect(only(UPSTREAM, { environment: { GATEWAY_LIMITS_MAX_IN_FLIGHT: '-1' } })).to.include({
        at: 'environment GATEWAY_LIMITS_MAX_IN_FLIGHT',
        path: 'limits.max_in_flight',
      })
      expect(only(UPSTREAM, { environment: { GATEWAY_ALLOWED_HOSTS: 'ok,http://x' } }).at).to.equal(
        'environment GATEWAY_ALLOWED_HOSTS',
      )
    })

    it('refuses a mistyped GATEWAY_ variable and leaves those of orchestrators alone', () => {
      const environment = {
        GATEWAY_LOG_LEVLE: 'debug',
        GATEWAY_SERVICE_HOST: '10.0.0.1',
        GATEWAY_KEY: 'gwk_x',
      }
      expect(only(UPSTREAM, { environment })).to.include({
        at: 'environment GATEWAY_LOG_LEVLE',
        hint: 'Did you mean GATEWAY_LOG_LEVEL?',
      })
    })

    it('reads PORT only under --dev', () => {
      const environment = { PORT: '9321' }
      expect(load(UPSTREAM, { environment }).config.listen.port).to.equal(8080)
      expect(load(UPSTREAM, { environment, flags: { dev: true } }).config.listen.port).to.equal(9321)
    })
  })

  describe('references to the environment', () => {
    it('are replaced inside strings, and $${ stands for itself', () => {
      const text = 'upstreams: { a: { url: "http://a/", headers: { x-a: "one ${A} $${B}" } } }'
      const { config } = load(text, { environment: { A: 'val: {}' } })
      expect(config.upstreams['a']?.headers).to.deep.equal({ 'x-a': 'one val: {} ${B}' })
    })

    it('may have a default', () => {
      const text = 'upstreams: { a: { url: "http://127.0.0.1:${A:-9100}/mcp" } }'
      expect(load(text).config.upstreams['a']?.url).to.equal('http://127.0.0.1:9100/mcp')
      expect(load(text, { environment: { A: '1' } }).config.upstreams['a']?.url).to.equal(
        'http://127.0.0.1:1/mcp',
      )
    })

    it('fall back to the file named by NAME_FILE, without its final line break', () => {
      const text = 'upstreams: { a: { url: "http://a/", headers: { authorization: "Bearer ${TOKEN}" } } }'
      const file = write('from-a-file\n', 'token')
      expect(load(text, { environment: { TOKEN_FILE: file } }).config.upstreams['a']?.headers).to.deep.equal({
        authorization: 'Bearer from-a-file',
      })
    })

    it('name the variable that is missing, and its place', () => {
      const text = 'upstreams:\n  a:\n    url: "http://a/"\n    headers: { x-a: "${NOT_THERE}" }\n'
      const problem = only(text)
      expect(problem).to.include({ at: 'gateway.yaml:4:21', path: 'upstreams.a.headers.x-a' })
      expect(problem.message).to.include('NOT_THERE')
    })

    it('are no settings by themselves: a number needs its own variable', () => {
      const problem = only(`limits: { max_in_flight: "\${N}" }\n${UPSTREAM}`, { environment: { N: '5' } })
      expect(problem.hint).to.include('GATEWAY_LIMITS_MAX_IN_FLIGHT')
    })

    it('are not replaced in names', () => {
      expect(
        only('upstreams: { "${A}": { url: "http://a/" } }', { environment: { A: 'x' } }).message,
      ).to.equal('is not a name')
    })
  })

  describe('mistakes', () => {
    const cases: readonly [what: string, text: string, at: string, says: RegExp][] = [
      [
        'an unknown setting',
        `limits:\n  max_body_byte: 5\n${UPSTREAM}`,
        '2:3',
        /unknown setting.*Did you mean max_body_bytes/,
      ],
      ['an unknown section', `limit: {}\n${UPSTREAM}`, '1:1', /unknown setting.*Did you mean limits/],
      [
        'the same key twice',
        `listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n${UPSTREAM}`,
        '2:1',
        /same key twice/,
      ],
      ['a syntax error', `listen: [\n${UPSTREAM}`, '2:1', /not valid YAML/],
      ['an unknown tag', `listen: !secret x\n${UPSTREAM}`, '1:9', /not valid YAML/],
      ['a second document', `${UPSTREAM}---\nlisten: 127.0.0.1:1\n`, '4:1', /not valid YAML/],
      ['no mapping', '- a\n- b\n', '1:1', /must be a mapping/],
      ['a wrong type', `audit:\n  enabled: yes\n${UPSTREAM}`, '2:12', /must be true or false/],
      ['a number out of range', `limits: { max_in_flight: 0 }\n${UPSTREAM}`, '1:26', />= 1/],
      ['a fraction', `limits: { max_in_flight: 1.5 }\n${UPSTREAM}`, '1:26', /whole number/],
      [
        'an unknown choice',
        `audit: { mode: later }\n${UPSTREAM}`,
        '1:16',
        /must be one of: batch, durable, blocking/,
      ],
      ['no upstreams', 'listen: 127.0.0.1:1\n', '1:1', /is missing/],
      ['an upstream without a url', 'upstreams:\n  a: { labels: { b: c } }\n', '2:6', /is missing/],
      ['a bad upstream name', 'upstreams:\n  A_b: { url: "http://x" }\n', '2:3', /Lower-case letters/],
      [
        'a name that is inherited by every object',
        'upstreams:\n  __proto__: { url: "http://x" }\n',
        '2:3',
        /Lower-case/,
      ],
      [
        'arguments beside the command',
        'upstreams:\n  a: { command: [npx], args: [x] }\n',
        '2:24',
        /Write them into command/,
      ],
      ['a command as text', 'upstreams:\n  a: { command: npx x }\n', '2:17', /must be a list/],
      ['an empty command', 'upstreams:\n  a: { command: [] }\n', '2:17', /NOT have fewer than 1/],
      ['a command of no program', 'upstreams:\n  a: { command: [""] }\n', '2:18', /names no program/],
      [
        'a command and a url',
        'upstreams:\n  a: { url: "http://x/", command: [npx] }\n',
        '2:26',
        /given together with upstreams.a.url/,
      ],
      [
        'headers of a stdio server',
        'upstreams:\n  a: { command: [npx], headers: { x: "1" } }\n',
        '2:24',
        /only for servers at a url/,
      ],
      [
        'an environment of an HTTP server',
        'upstreams:\n  a: { url: "http://x/", env: { A: "1" } }\n',
        '2:26',
        /only for servers started by a command/,
      ],
      [
        'a credential of a stdio server written into the file',
        'upstreams:\n  a: { command: [x], env: { API_TOKEN: abc } }\n',
        '2:40',
        /a secret written into the file/,
      ],
      [
        'a variable that is none',
        'upstreams:\n  a: { command: [x], env: { "A=B": c } }\n',
        '2:29',
        /is not a name/,
      ],
      [
        'an upstream url of another scheme',
        'upstreams: { a: { url: "file:///etc" } }',
        '1:24',
        /http:\/\/ or https/,
      ],
      [
        'credentials in an upstream url',
        'upstreams: { a: { url: "https://u:p@x/" } }',
        '1:24',
        /credentials go into headers/,
      ],
      [
        'a header the gateway sets',
        'upstreams: { a: { url: "http://x", headers: { Host: y } } }',
        '1:47',
        /sets this header itself/,
      ],
      [
        'a header twice',
        'upstreams: { a: { url: "http://x", headers: { x-a: y, X-A: z } } }',
        '1:55',
        /same header twice/,
      ],
      [
        'a header value with a line break',
        'upstreams: { a: { url: "http://x", headers: { x-a: "y\\r\\nz" } } }',
        '1:52',
        /Line breaks/,
      ],
      ['a bad address', `listen: localhost\n${UPSTREAM}`, '1:9', /address:port/],
      ['a port beyond 65535', `listen: 127.0.0.1:70000\n${UPSTREAM}`, '1:9', /address:port/],
      [
        'listening for everybody without a name',
        `listen: 0.0.0.0:8080\n${UPSTREAM}`,
        '1:9',
        /Set public_url/,
      ],
      [
        'an admin listener for everybody',
        `admin: { listen: "[::]:8081" }\n${UPSTREAM}`,
        '1:18',
        /allow_wildcard/,
      ],
      ['both listeners on one port', `listen: 127.0.0.1:8081\n${UPSTREAM}`, '1:1', /front door/],
      ['trusting every proxy', `trusted_proxies: [0.0.0.0/0]\n${UPSTREAM}`, '1:19', /trusts everybody/],
      ['a bad network', `trusted_proxies: [10.0.0.0/33]\n${UPSTREAM}`, '1:19', /network/],
      [
        'an origin with a path',
        `allowed_origins: ["https://a.example/x"]\n${UPSTREAM}`,
        '1:19',
        /without a path/,
      ],
      [
        'an origin with a wildcard for a host',
        `allowed_origins: ["http://*:80"]\n${UPSTREAM}`,
        '1:19',
        /without a path/,
      ],
      [
        'an origin with two ports',
        `allowed_origins: ["http://a.example:81:*"]\n${UPSTREAM}`,
        '1:19',
        /without a path/,
      ],
      ['a way to refuse that nobody knows', `deny_as: quietly\n${UPSTREAM}`, '1:10', /in_band/],
      ['no kind of credential', `auth: { api_keys: false }\n${UPSTREAM}`, '1:19', /no kind of credential/],
      [
        'a migrate_url alone',
        `database: { migrate_url: "postgres://x/y" }\n${UPSTREAM}`,
        '1:13',
        /without database.url/,
      ],
      [
        'a database url without a secret',
        `database: { url: "postgres://x/y" }\n${UPSTREAM}`,
        '1:1',
        /mandatory/,
      ],
      [
        'a certificate that is not there',
        `tls: { cert_file: no.pem, key_file: no.key }\n${UPSTREAM}`,
        '1:19',
        /ENOENT/,
      ],
    ]
    for (const [what, text, at, says] of cases) {
      it(`are told with their place: ${what}`, () => {
        const [problem] = problemsOf(text)
        expect(problem?.at).to.equal(`gateway.yaml:${at}`)
        expect(`${problem?.message}. ${problem?.hint}`).to.match(says)
      })
    }

    it('are told all at once, in the order of the file', () => {
      const text =
        'listen: 0.0.0.0:1\nlimits: { max_in_flight: x }\nnothing: 1\nupstreams: { a: { url: ftp://x } }\n'
      expect(problemsOf(text).map(({ path }) => path)).to.deep.equal([
        'listen',
        'limits.max_in_flight',
        'nothing',
        'upstreams.a.url',
      ])
    })

    it('include files that cannot be read', () => {
      expect(() => loadConfig({ cwd: folder, environment: {} })).to.throw(
        /cannot read .*gateway\.yaml \(ENOENT\)/,
      )
      writeFileSync(join(folder, 'gateway.yaml'), Buffer.from([0x6c, 0xff, 0xfe]))
      expect(() => loadConfig({ cwd: folder, environment: {} })).to.throw(/is not UTF-8/)
    })

    it('include a file that grows when it is read', () => {
      const bomb = ['a: &a [x, x, x, x, x, x, x, x, x]']
      for (const [name, before] of ['ba', 'cb', 'dc', 'ed', 'fe'].map((pair) => [...pair])) {
        bomb.push(`${name}: &${name} [${Array(9).fill(`*${before}`).join(', ')}]`)
      }
      expect(only(bomb.join('\n')).message).to.match(/alias/i)
    })

    it('include a file that is nested without end', () => {
      expect(problemsOf(`listen: ${'['.repeat(5000)}${']'.repeat(5000)}\n${UPSTREAM}`)).to.not.have.length(0)
      expect(problemsOf(`a: ${'['.repeat(100)}${']'.repeat(100)}\n${UPSTREAM}`)).to.not.have.length(0)
    })

    it('include a file that is far too large', () => {
      expect(only(`# ${'x'.repeat(1_100_000)}\n${UPSTREAM}`).message).to.include('larger than')
    })
  })

  describe('secrets', () => {
    const withDatabase = `database: { url: "postgres://gw:\${PW}@db/gw" }\nsecret: \${S}\n${UPSTREAM}`

    it('are refused when written into the file', () => {
      for (const [text, path] of [
        [`secret: ${SECRET}\n${UPSTREAM}`, 'secret'],
        [`database: { url: "postgres://gw:hunter2@db/gw" }\nsecret_file: s\n${UPSTREAM}`, 'database.url'],
        [
          'upstreams: { a: { url: "http://x", headers: { Authorization: "Bearer abc" } } }',
          'upstreams.a.headers.Authorization',
        ],
        [
          'upstreams: { a: { url: "http://x", headers: { x-my-api-key: abc } } }',
          'upstreams.a.headers.x-my-api-key',
        ],
      ] as const) {
        write(`${SECRET}\n`, 's')
        const problem = only(text)
        expect(problem).to.deep.include({ path, message: 'a secret written into the file' })
      }
    })

    it('may come from a variable or a file, not from both', () => {
      const file = write(`${SECRET}\n`, 'secret')
      expect(load(`secret_file: secret\n${UPSTREAM}`).config.secret).to.equal(SECRET)
      expect(load(UPSTREAM, { environment: { GATEWAY_SECRET_FILE: file } }).config.secret).to.equal(SECRET)
      expect(
        only(`secret_file: secret\nsecret: \${S}\n${UPSTREAM}`, { environment: { S: SECRET } }).message,
      ).to.equal('given together with secret')
    })

    it('of a variable replace the file that gateway.yaml names', () => {
      const text = `secret_file: not-there\n${UPSTREAM}`
      expect(load(text, { environment: { GATEWAY_SECRET: SECRET } }).config.secret).to.equal(SECRET)
    })

    it('that are weak are refused without being shown', () => {
      for (const weak of ['short', 'a'.repeat(64), 'abcdefgh'.repeat(8)]) {
        const problem = only(UPSTREAM, { environment: { GATEWAY_SECRET: weak } })
        expect(problem.path).to.equal('secret')
        expect(JSON.stringify(problem)).to.not.include(weak)
      }
    })

    it('stand in no problem, whatever is wrong with them', () => {
      const hidden = 'hunter2hunter2'
      const texts = [
        `database: { url: "${hidden}" }\nsecret: ["${hidden}"]\n${UPSTREAM}`,
        `secret: "${hidden}"\nsecret: "${hidden}"\n${UPSTREAM}`,
        `upstreams: { a: { url: "http://u:${hidden}@x", headers: { authorization: "${hidden}\\n" } } }`,
        `secret: *${hidden}\n${UPSTREAM}`.replace(`*${hidden}`, `"${hidden}`),
      ]
      for (const text of texts) {
        const problems = problemsOf(text)
        expect(problems).to.not.have.length(0)
        expect(JSON.stringify(problems)).to.not.include(hidden)
      }
    })

    it('are masked by config show, which gives the origin of every value', () => {
      const text = `${withDatabase}    headers: { authorization: "Bearer \${T}", x-team: web }\n`
      const environment = { PW: 'hunter2', S: SECRET, T: 'tok-123', GATEWAY_LOG_LEVEL: 'warn' }
      const shown = listSettings(load(text, { environment }))
      const of = (setting: string) => shown.find((one) => one.setting === setting)
      for (const hidden of ['hunter2', SECRET, 'tok-123'])
        expect(JSON.stringify(shown)).to.not.include(hidden)
      expect(of('secret')).to.deep.equal({ setting: 'secret', value: '${S}', origin: 'gateway.yaml:2:1' })
      expect(of('upstreams.github.headers.authorization')?.value).to.equal('Bearer ${T}')
      expect(of('log.level')).to.deep.equal({
        setting: 'log.level',
        value: 'warn',
        origin: 'environment GATEWAY_LOG_LEVEL',
      })
      expect(of('listen')?.origin).to.equal('default')
      expect(of('upstreams.github.timeout_ms')?.origin).to.equal('default')
    })

    it('read from a file are masked and come from where the file is named', () => {
      write(`${SECRET}\n`, 'secret')
      const shown = listSettings(load(`secret_file: secret\n${UPSTREAM}`))
      expect(shown.find(({ setting }) => setting === 'secret')).to.deep.equal({
        setting: 'secret',
        value: '********',
        origin: 'gateway.yaml:1:1',
      })
    })

    it('after the question mark of an upstream’s url are not shown', () => {
      const shown = listSettings(load('upstreams: { a: { url: "https://x/mcp?key=hunter2" } }'))
      expect(JSON.stringify(shown)).to.include('https://x/mcp?').and.not.include('hunter2')
    })

    it('of an overriding variable are masked too, and not called by the name in the file', () => {
      const environment = { PW: 'x', S: SECRET, DATABASE_URL: 'postgres://gw:hunter2@other/gw' }
      const shown = listSettings(load(withDatabase, { environment }))
      expect(shown.find(({ setting }) => setting === 'database.url')).to.deep.equal({
        setting: 'database.url',
        value: 'postgres://gw:********@other/gw',
        origin: 'environment DATABASE_URL',
      })
    })
  })

  describe('--dev', () => {
    it('lets requests without a credential in, on loopback only', () => {
      expect(load(UPSTREAM, { flags: { dev: true } }).config.auth.anonymous).to.equal(true)
      const text = `listen: 0.0.0.0:8080\nallowed_hosts: [a.example]\n${UPSTREAM}`
      expect(only(text, { flags: { dev: true } }).message).to.include('only on loopback')
      expect(only(`public_url: https://a.example\n${UPSTREAM}`, { flags: { dev: true } }).path).to.equal(
        'public_url',
      )
    })

    it('is never on without the flag', () => {
      expect(only(`auth: { anonymous: true }\n${UPSTREAM}`).message).to.equal('unknown setting')
      expect(
        load(UPSTREAM, { environment: { GATEWAY_AUTH_ANONYMOUS: 'true' } }).config.auth.anonymous,
      ).to.equal(false)
    })
  })
})
