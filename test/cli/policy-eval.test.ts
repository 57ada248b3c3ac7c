import { randomBytes, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { stringify } from 'yaml'
import { createAuditRoom } from '../../src/audit/writer.ts'
import type { AuditEvent, Call } from '../../src/gateway/types.ts'
import type { CompiledPolicy } from '../../src/policy/build.ts'
import { buildPolicy } from '../../src/policy/build.ts'
import { loadPolicySources } from '../../src/policy/build-sources.ts'
import { createPolicyRoom } from '../../src/policy/engine.ts'
import { deriveKey } from '../../src/secret.ts'
import { call, newId, refused, removeSpools, spooling, toolsCall } from '../audit/fixtures.ts'
import { closeFixture, fixtureCompiler } from '../policy/engine-fixture.ts'
import { createFolders } from '../policy/testing/folder.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { expectGolden, gateway } from './policy-fixture.ts'
import { CASES, INPUT, POLICY } from './question-fixture.ts'

describe('gateway policy eval', function () {
  this.timeout(60_000)
  const folders = createFolders('gateway-eval-')
  let folder: string
  let home: string
  before(async () => {
    folder = await folders.make({ 'authz/tools.rego': POLICY, 'cases/tools.yaml': CASES })
    home = await mkdtemp(join(tmpdir(), 'gateway-eval-'))
  })
  after(async () => {
    await folders.remove()
    await rm(home, { recursive: true, force: true })
    await closeFixture()
  })

  const evaluate = (...args: string[]) => gateway(['policy', 'eval', '--policies', folder, ...args])
  const save = async (name: string, text: string) => {
    await writeFile(join(home, name), text)
    return join(home, name)
  }
  /** `now_ns` with its own digits, arguments as they are written. */
  const document = (argumentsText = '{"n":9007199254740993}') =>
    `${JSON.stringify(INPUT).replace('1795255200000000000', '1795255200000000001').slice(0, -1)},"arguments":${argumentsText}}`

  it('prints the decision and the rules that made it', async () => {
    const { code, stdout } = await evaluate(await save('input.json', document()))
    expect(code).to.equal(0)
    expectGolden('eval-input', stdout, folder)
  })

  it('shows what has to be done about the call, and what no row may hold', async () => {
    const rules = `
obligations contains {"kind": "audit_payload", "level": "request"} if destroys

mask contains "/arguments/token" if destroys

mask contains {"op": "upsert", "path": "/result", "value": "gone"} if destroys
`
    const other = await folders.make({ 'authz/tools.rego': `${POLICY}${rules}` })
    const asked = ['policy', 'eval', '--policies', other, await save('obliged.json', JSON.stringify(INPUT))]
    const { stdout } = await gateway(asked)
    expect(stdout).to.include('  obligation  {"kind":"audit_payload","level":"request"}\n')
    expect(stdout).to.include('  mask        "/arguments/token"\n')
    expect(stdout).to.include('  mask        {"op":"upsert","path":"/result","value":"gone"}\n')
    const { decision, mask_failure } = JSON.parse((await gateway([...asked, '--json'])).stdout)
    expect(decision.obligations).to.deep.equal([{ kind: 'audit_payload', level: 'request' }])
    expect(decision.mask).to.have.deep.members([
      '/arguments/token',
      { op: 'upsert', path: '/result', value: 'gone' },
    ])
    expect(mask_failure).to.equal(null)
  })

  it('says why masks are not known', async () => {
    const other = await folders.make({ 'authz/tools.rego': `${POLICY}\nmask contains "/request/id"\n` })
    const asked = ['policy', 'eval', '--policies', other, await save('masked.json', JSON.stringify(INPUT))]
    const { stdout } = await gateway(asked)
    expect(stdout).to.include(
      '  mask        malformed, so the row holds no payloads: mask[0] path must begin with',
    )
    const { mask_failure } = JSON.parse((await gateway([...asked, '--json'])).stdout)
    expect(mask_failure).to.match(/^mask\[0\] path/)
  })

  it('speaks JSON, with all digits', async () => {
    const { stdout } = await evaluate(await save('input.json', document()), '--json')
    expect(stdout).to.include('"n": 9007199254740993').and.include('"now_ns": 1795255200000000001')
    const answer = JSON.parse(stdout)
    expect(answer.decision).to.deep.equal({
      allow: false,
      allowed_by: ['engineers-may-call'],
      denied_by: ['destructive-without-mfa'],
      limits: [{ name: 'calls', key: ['ada'], limit: 3, window_s: 60, cost: 1 }],
      obligations: [],
      mask: [],
    })
    expect(answer.trace.rules).to.have.length.greaterThan(2)
    expect(answer.recorded).to.equal(null)
  })

  it('refuses what is no policy input, with every path', async () => {
    const file = await save('bad.json', document().replace('"roles"', '"rolls"').replace('"tools/call"', '7'))
    const { code, stderr } = await evaluate(file)
    expect(code).to.equal(2)
    expect(stderr).to.include('principal.rolls: unknown field; did you mean roles?')
    expect(stderr).to.include('request.method: must be string')
    const json = JSON.parse((await evaluate(file, '--json')).stderr)
    expect(json.problems).to.deep.include({ path: 'principal.roles', message: 'is missing' })
    expect((await evaluate(join(home, 'none.json'))).code).to.equal(2)
  })

  it('takes one thing to evaluate', async () => {
    for (const args of [[], ['a.json', '--case', 'b']]) {
      const { code, stderr } = await evaluate(...args)
      expect([code, stderr.includes('Give one thing')]).to.deep.equal([2, true])
    }
  })

  it('evaluates a case of a table, and keeps its input', async () => {
    const saved = join(home, 'saved.json')
    const first = await evaluate('--case', 'cases/tools.yaml:5[eng,delete_repo]', '--save-input', saved)
    expect(first.code).to.equal(0)
    expect(first.stdout).to.match(/^denied\n/)
    expect(JSON.parse(readFileSync(saved, 'utf8'))).to.deep.include({ phase: 'call', arguments: {} })
    const again = await evaluate(saved)
    const comparable = (text: string) => text.replace(/\d+ us/, 'N us')
    expect(comparable(again.stdout)).to.equal(comparable(first.stdout))
    const none = await evaluate('--case', 'cases/tools.yaml:99')
    expect(none.code).to.equal(2)
    expect(none.stderr).to.include('cases/tools.yaml:5  denied').and.include('cases/tools.yaml:6  shown')
  })

  it('evaluates the elements of a list', async () => {
    const { code, stdout } = await evaluate('--case', 'cases/tools.yaml:6')
    expect(code).to.equal(0)
    expectGolden('eval-list', stdout, folder)
  })

  it('shows an evaluation that gave no decision', async () => {
    const { code, stdout } = await evaluate(await save('large.json', document('{"n":99999999999999999999}')))
    expect(code).to.equal(0)
    expect(stdout)
      .to.match(/^denied\n/)
      .and.match(/failure +policy_error: input\.arguments holds 99999999999999999999/)
  })

  it('prints policies that do not build, exit code 1', async () => {
    const bad = await folders.make({ 'a.rego': 'package gateway.authz\n\nallow := true\n' })
    const { code, stdout } = await gateway([
      'policy',
      'eval',
      '--policies',
      bad,
      await save('input.json', document()),
    ])
    expect([code, stdout.startsWith('P107 ')]).to.deep.equal([1, true])
  })

  describe('--row', () => {
    let database: TestDatabase
    let policy: CompiledPolicy
    const secret = randomBytes(32).toString('base64')
    const rows = { whole: '', redacted: '', unread: '', withheld: '' }

    before(async () => {
      database = await createTestDatabase()
      policy = await buildPolicy(await loadPolicySources(folder), {
        compiler: await fixtureCompiler(),
        cacheDir: null,
      })
      Object.assign(process.env, environment())
      await writeFile(
        join(home, 'gateway.yaml'),
        stringify({
          database: { url: '${EVAL_TEST_URL}', migrate_url: '${EVAL_TEST_MIGRATE_URL}' },
          secret: '${EVAL_TEST_SECRET}',
          policies: folder,
          upstreams: { github: { url: 'http://127.0.0.1:9/mcp' } },
        }),
      )
      const quiet = () => undefined
      const room = createAuditRoom({
        pool: database.pool,
        writerId: randomUUID(),
        newId,
        clock: { nowMs: Date.now },
        log: { info: quiet, warn: quiet, error: quiet },
        ...spooling(),
      })
      await room.start()
      const startedMs = Date.now() - 60_000
      const events = {
        whole: await decided(
          call({ startedMs, message: toolsCall('{"repo":"site","owner":"acme","n":9007199254740993}') }),
        ),
        redacted: await decided(
          call({ startedMs: startedMs + 1, message: toolsCall('{"password":"hunter2-hunter2"}') }),
        ),
        unread: {
          call: call({ startedMs: startedMs + 2, stage: 'read', message: null, target: null }),
          ending: refused('parse_error'),
        },
      }
      for (const [name, event] of Object.entries(events)) {
        rows[name as keyof typeof rows] = event.call.id
        await room.end(event)
      }
      await room.close()
      const sparing = createAuditRoom({
        pool: database.pool,
        writerId: randomUUID(),
        newId,
        clock: { nowMs: Date.now },
        log: { info: quiet, warn: quiet, error: quiet },
        redaction: { plan: { payload: { level: 'metadata', upstreams: {} }, compact: true } },
        ...spooling(),
      })
      await sparing.start()
      const withheld = await decided(
        call({ startedMs: startedMs + 3, message: toolsCall('{"repo":"kept-to-myself"}') }),
      )
      rows.withheld = withheld.call.id
      await sparing.end(withheld)
      await sparing.close()
    })
    after(async () => {
      for (const name of Object.keys(environment())) delete process.env[name]
      await database.drop()
      removeSpools()
    })

    const environment = () => ({
      EVAL_TEST_URL: database.url,
      EVAL_TEST_MIGRATE_URL: database.migrateUrl,
      EVAL_TEST_SECRET: secret,
    })
    const config = () => ['--config', join(home, 'gateway.yaml')]

    /** Decided as the gateway decides, and recorded as it records. */
    async function decided(asked: Call): Promise<AuditEvent> {
      const room = await createPolicyRoom({
        policy,
        inputMacKey: deriveKey(secret, 'input_mac'),
        now: () => 1_795_255_200_123_456_789n,
        monotonicMs: () => performance.now(),
        log: { warn() {}, error() {} },
      })
      const annotations = { title: 'Delete', destructiveHint: true, readOnlyHint: false }
      const target = { kind: 'tool', name: 'delete_repo', annotations, schemaDigest: null } as const
      const made = {
        ...asked,
        target,
        principal: { ...asked.principal!, roles: ['engineer'], claims: { mfa: false, level: 2 } },
      }
      return { call: { ...made, evaluation: room.decide(made) }, ending: refused('policy_denied') }
    }

    it('explains a recorded attempt by the policies of today, and says what was decided then', async () => {
      const { code, stdout, stderr } = await gateway(['policy', 'explain', rows.whole, ...config()])
      expect(code, stderr).to.equal(0)
      expectGolden('explain-row', stdout.replace(rows.whole, 'ROW'), folder)
      const unread = await gateway(['policy', 'explain', rows.unread, ...config()])
      expect(unread.code).to.equal(1)
      expect(unread.stderr).to.include('The policy was not asked')
      expect((await gateway(['policy', 'explain', '00000000', ...config()])).code).to.equal(2)
    })

    it('evaluates a recorded attempt once more, and says that it is the same one', async () => {
      const { code, stdout, stderr } = await gateway(['policy', 'eval', '--row', rows.whole, ...config()])
      expect(code, stderr).to.equal(0)
      expectGolden('eval-row', stdout.replace(rows.whole, 'ROW'), folder)
      const json = JSON.parse(
        (await gateway(['policy', 'eval', '--row', rows.whole, '--json', ...config()])).stdout,
      )
      expect(json.recorded).to.deep.include({ id: rows.whole, allow: false, replay: 'exact', losses: [] })
      expect(json.decision.denied_by).to.deep.equal(json.recorded.denied_by)
    })

    it('says what other policies would say today', async () => {
      const open = await folders.make({
        'a.rego': 'package gateway.authz\n\nallow contains "all" if input.principal.id\n',
      })
      const { stdout } = await gateway([
        'policy',
        'eval',
        '--row',
        rows.whole,
        '--policies',
        open,
        ...config(),
      ])
      expect(stdout)
        .to.match(/^allowed\n/)
        .and.include('today it is the other way')
    })

    it('says when the row does not hold what was decided on', async () => {
      const { stdout } = await gateway(['policy', 'eval', '--row', rows.redacted, ...config()])
      expect(stdout).to.include('not exactly: secrets were replaced in the request')
      expect(stdout).to.not.include('hunter2')
    })

    it('says that a row without payload does not hold what was decided on, and why', async () => {
      const { stdout } = await gateway(['policy', 'eval', '--row', rows.withheld, ...config()])
      const text = stdout.replace(/\s+/g, ' ')
      expect(text).to.include('the arguments are not in the row')
      expect(text).to.include('the request was not kept, as the configuration asked')
      expect(text).to.not.include('kept-to-myself')
    })

    it('says when another secret was in use', async () => {
      process.env['EVAL_TEST_SECRET'] = randomBytes(32).toString('base64')
      try {
        const { stdout } = await gateway(['policy', 'eval', '--row', rows.whole, ...config()])
        expect(stdout.replace(/\s+/g, ' ')).to.include(
          'not confirmed: the digest of that time does not agree',
        )
      } finally {
        process.env['EVAL_TEST_SECRET'] = secret
      }
    })

    it('has nothing to say where no policy was asked, and about rows that are not there', async () => {
      const unread = await gateway(['policy', 'eval', '--row', rows.unread, ...config()])
      expect([unread.code, unread.stderr.includes('The policy was not asked about')]).to.deep.equal([1, true])
      expect((await gateway(['policy', 'eval', '--row', randomUUID(), ...config()])).code).to.equal(2)
      expect((await gateway(['policy', 'eval', '--row', 'nonsense', ...config()])).code).to.equal(2)
    })
  })
})
