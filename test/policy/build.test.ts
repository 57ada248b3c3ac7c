import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect } from 'chai'
import type { BuildOptions, CompiledPolicy } from '../../src/policy/build.ts'
import { buildPolicy, loadInputSchema } from '../../src/policy/build.ts'
import { PolicyBuildError } from '../../src/policy/build-error.ts'
import type { PolicySources } from '../../src/policy/build-sources.ts'
import { loadPolicySources, SOURCE_BOUNDS } from '../../src/policy/build-sources.ts'
import type { Compiler } from '../../src/policy/compiler.ts'
import { createCompiler } from '../../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../../src/policy/compiler-artifact.ts'
import { createHost, DEFAULT_HOST_LIMITS } from '../../src/policy/host.ts'
import { ENTRYPOINTS, LIST_READS, LISTED } from '../../src/policy/product-module.ts'

const ALLOW = 'package gateway.authz\n\nallow contains "anyone" if input.principal.id\n'

const CALL = {
  phase: 'call',
  request: { id: 'r', time: '2026-01-01T00:00:00.000Z', now_ns: 1, method: 'tools/call' },
  principal: {
    id: 'ann',
    kind: 'user',
    roles: ['developer'],
    teams: [],
    scopes: [],
    claims: {},
    auth_method: 'api_key',
  },
  server: { name: 'files', labels: {} },
  target: { kind: 'tool', name: 'read', annotations: {} },
}

describe('building policies', function () {
  this.timeout(60_000)
  let folder: string
  let compiler: Compiler
  /** Builds made, as opposed to taken from the cache. */
  let builds = 0

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'build-test-'))
    compiler = createCompiler({ artifact: await loadCompilerArtifact(join(folder, 'compiler')) })
  })

  after(async () => {
    await compiler.close()
    await rm(folder, { recursive: true, force: true })
  })

  async function write(files: Readonly<Record<string, string | Buffer>>): Promise<string> {
    const root = await mkdtemp(join(folder, 'policies-'))
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(root, name)), { recursive: true })
      await writeFile(join(root, name), text)
    }
    return root
  }

  const load = async (files: Readonly<Record<string, string | Buffer>>) =>
    loadPolicySources(await write(files))

  async function refused(load: () => Promise<unknown>): Promise<PolicyBuildError> {
    try {
      await load()
    } catch (error) {
      if (error instanceof PolicyBuildError) return error
      throw error
    }
    throw new Error('it was accepted')
  }
  /** What is wrong with a folder, as it is printed. */
  const printed = async (load: () => Promise<unknown>) => (await refused(load)).format()
  /** The same without layout: place, message, way out. */
  const refusal = async (load: () => Promise<unknown>) =>
    (await refused(load)).errors
      .map(({ file, row, col, message, hint }) => {
        const place = file === '' ? '' : row > 0 ? `${file}:${row}:${col}: ` : `${file}: `
        return `${place}${message}${hint === null ? '' : `\n  = ${hint}`}`
      })
      .join('\n\n')

  function options(cacheDir: string | null = null): BuildOptions {
    const counted: BuildOptions['compiler'] = {
      digest: compiler.digest,
      build(request) {
        builds += 1
        return compiler.build(request)
      },
    }
    return { compiler: counted, cacheDir }
  }

  const build = async (files: Readonly<Record<string, string>>) => buildPolicy(await load(files), options())

  async function evaluate(policy: CompiledPolicy, entrypoint: string, input: unknown): Promise<unknown> {
    const known = new Set([...policy.dictionary.rules, ...policy.dictionary.exprs].map((probe) => probe.id))
    const host = await createHost({
      wasm: policy.wasm,
      dataText: JSON.stringify(policy.data),
      knowsProbe: (probe) => known.has(probe.id),
      limits: DEFAULT_HOST_LIMITS,
    })
    const bytes = new TextEncoder().encode(JSON.stringify(input))
    const run = host.evaluate({ entrypoint, input: bytes, nowNs: 1n, record: true })
    if (run.fault !== null) throw run.fault
    return run.result
  }

  describe('reads a folder', () => {
    it('in the order of names, without tests, cases, hidden and other files', async () => {
      const sources = await load({
        'z.rego': ALLOW,
        'a/b.rego': 'package b',
        'a/b_test.rego': 'package b_test',
        'cases/c.rego': 'package c',
        'a/cases/d.rego': 'package d',
        '.git/e.rego': 'package e',
        '.f.rego': 'package f',
        'README.md': '# g',
        'other.json': '{}',
      })
      expect(Object.keys(sources.rego)).to.deep.equal(['a/b.rego', 'z.rego'])
      expect(sources.data).to.deep.equal({})
    })

    it('and merges data files by folder', async () => {
      const { data } = await load({
        'p.rego': ALLOW,
        'data.json': '{"a": {"x": 1}, "big": "9007199254740993"}',
        'a/data.yaml': 'y: 2\nlist: [on, 1.5]\n',
        'a/b c/data.yml': 'z: {deep: true}\n',
        'gateway/authz/data.json': '{"teams": ["a"]}',
      })
      expect(data).to.deep.equal({
        a: { x: 1, y: 2, list: ['on', 1.5], 'b c': { z: { deep: true } } },
        big: '9007199254740993',
        gateway: { authz: { teams: ['a'] } },
      })
    })

    it('through links inside the folder, as mounted volumes have them', async () => {
      const root = await write({ '..2026_01_01/p.rego': ALLOW })
      await symlink('..2026_01_01', join(root, '..data'))
      await symlink('..data/p.rego', join(root, 'p.rego'))
      expect((await loadPolicySources(root)).rego).to.deep.equal({ 'p.rego': ALLOW })
    })

    it('and refuses links that lead out of it, to folders, or nowhere', async () => {
      const outside = await write({ 'p.rego': ALLOW })
      const root = await write({ 'q.rego': ALLOW })
      await symlink(join(outside, 'p.rego'), join(root, 'p.rego'))
      expect(await refusal(() => loadPolicySources(root))).to.equal(
        'p.rego: the link leads out of the policies folder\n  = copy the file into the folder',
      )
      await rm(join(root, 'p.rego'))
      await symlink(outside, join(root, 'sub'))
      expect(await refusal(() => loadPolicySources(root))).to.include('sub: linked folders are not followed')
      await rm(join(root, 'sub'))
      await symlink(join(root, 'none'), join(root, 'r.rego'))
      expect(await refusal(() => loadPolicySources(root))).to.include('r.rego: the file cannot be read')
    })

    it('and refuses what it cannot read for certain', async () => {
      for (const [files, text] of [
        [{ 'p.rego': Buffer.from('p\n\u00e9\n\xff\n', 'latin1') }, 'p.rego: the file is not UTF-8: line 2'],
        [{ 'p.rego': Buffer.from([0x70, 0x0a, 0xff]) }, 'p.rego: the file is not UTF-8: line 2'],
        [{ 'p.rego/x': '' }, ' holds no .rego file'],
        [{ 'bad\u202ename.rego': ALLOW }, 'file names must not hold control characters'],
        [{ 'data.json': '{}' }, ' holds no .rego file'],
      ] as const) {
        expect(await refusal(() => load(files)), text).to.include(text)
      }
      expect(await refusal(() => loadPolicySources(join(folder, 'none')))).to.include('none cannot be read')
    })

    it('and does not wait for a named pipe', async () => {
      const root = await write({ 'q.rego': ALLOW })
      execFileSync('mkfifo', [join(root, 'p.rego')])
      expect(await refusal(() => loadPolicySources(root))).to.include('p.rego: the file cannot be read')
    })

    it('within bounds', async () => {
      const root = await write({ 'a.rego': ALLOW, 'b.rego': ALLOW, 'c/d/e.rego': ALLOW })
      for (const [bounds, text] of [
        [{ maxFiles: 2 }, 'more than 2 files'],
        [{ maxFileBytes: 20 }, 'the file is larger than 20 bytes'],
        [{ maxTotalBytes: 100 }, 'the folder holds more than 100 bytes'],
        [{ maxDepth: 1 }, 'folders are nested deeper than 1'],
      ] as const) {
        expect(await refusal(() => loadPolicySources(root, { ...SOURCE_BOUNDS, ...bounds }))).to.include(text)
      }
    })
  })

  describe('refuses data', () => {
    const cases: readonly (readonly [string, Readonly<Record<string, string>>, string])[] = [
      [
        'that are no JSON, with the place',
        { 'data.json': '{\n  "a": 1,\n}' },
        'data.json:3:1: text must be one JSON value (RFC 8259)',
      ],
      [
        'with a key twice',
        { 'data.json': '{"a": 1, "a": 2}' },
        'data.json:1:10: an object must not have the same key twice',
      ],
      ['that are no YAML', { 'data.yaml': 'a: [1\nb: 2' }, 'data.yaml:'],
      ['with a YAML key twice', { 'data.yaml': 'a: 1\na: 2' }, 'data.yaml:2:1: Map keys must be unique'],
      ['that are no object', { 'data.json': '[1]' }, 'data.json: a data file holds an object'],
      [
        'with an integer that would lose digits',
        { 'data.json': '{"a": {"b": [9007199254740993]}}' },
        'data.json: data.a.b[0] is a number that cannot be kept exactly\n  = write it as a string',
      ],
      [
        'with no number',
        { 'data.yaml': 'a: .nan' },
        'data.yaml: data.a is a number that cannot be kept exactly',
      ],
      [
        'with a key that objects here cannot have',
        { 'data.json': '{"a": {"__proto__": {"x": 1}}}' },
        'data.json: data.a has a key __proto__',
      ],
      [
        'that expand without end',
        {
          'data.yaml': `a: &a [1]\n${'bcdefgh'
            .split('')
            .map((k, i) => `${k}: &${k} [${Array(9).fill(`*${'abcdefg'[i]}`).join()}]`)
            .join('\n')}`,
        },
        'Excessive alias count',
      ],
      [
        'of one value in two files',
        { 'data.json': '{"a": {"b": 1}}', 'a/data.json': '{"b": 2}' },
        'data.json: data.a.b has a value in another data file, too',
      ],
      [
        'in the gateway’s own place',
        { 'gateway/data.json': '{"decision": {}}' },
        'gateway/data.json: data.gateway.decision belongs to the gateway',
      ],
      [
        'instead of the gateway’s package',
        { 'data.json': '{"gateway": 1}' },
        'data.json: data.gateway belongs to the gateway',
      ],
      [
        'instead of the author’s package',
        { 'data.json': '{"gateway": {"authz": []}}' },
        'data.json: data.gateway.authz belongs to the gateway',
      ],
      [
        'instead of the decision’s rules',
        { 'gateway/authz/data.json': '{"allow": ["me"]}' },
        'gateway/authz/data.json: data.gateway.authz.allow belongs to the gateway',
      ],
    ]
    for (const [name, files, text] of cases) {
      it(name, async () => {
        expect(await refusal(() => load({ 'p.rego': ALLOW, ...files }))).to.include(text)
      })
    }

    it('where a rule lies', async () => {
      const files = { 'p.rego': 'package taken\n\nx := 1\n', 'taken/data.json': '{"x": 2}' }
      expect(await refusal(() => build(files))).to.equal(
        'p.rego:3:1: conflicting rule for data path taken/x found\n  = a data file has a value at this path; rename the rule or move the data',
      )
    })
  })

  describe('refuses policies', () => {
    it('with a misspelt field of input, and shows it', async () => {
      expect(
        await printed(() =>
          build({
            'p.rego': 'package gateway.authz\n\nallow contains "a" if {\n\tinput.principal.role == "x"\n}\n',
          }),
        ),
      ).to.equal(
        [
          `P101 unknown input field${' '.repeat(65)}p.rego:4:18`,
          '    4 |   input.principal.role == "x"',
          '      |                   ^^^^ no such field. Did you mean `roles`?',
          '      = fields of input.principal: auth_method, claims, id, kind, roles, scopes, teams, tenant',
        ].join('\n'),
      )
    })

    it('with all their errors at once', async () => {
      const files = { 'a.rego': 'package a\n\np {\n\ttrue\n}\n', 'b.rego': 'package b\n\np if {\n' }
      expect((await refusal(() => build(files))).split('\n\n')).to.have.length(2)
    })

    it('that define what is the gateway’s', async () => {
      for (const text of ['package gateway\n\nx := 1\n', 'package gateway.visible\n\nx := 1\n']) {
        expect(await refusal(() => build({ 'p.rego': ALLOW, 'q.rego': text }))).to.include(
          'belongs to the gateway',
        )
      }
    })

    it('whose deny would never be seen', async () => {
      expect(
        await refusal(() => build({ 'p.rego': `${ALLOW}\ndeny if input.principal.tenant\n` })),
      ).to.include('p.rego:5:1: deny is not a set of reasons')
    })

    it('in files that pretend to be the gateway’s', async () => {
      const sources = { rego: { '<product>/x.rego': 'package gateway\n\nallow := true\n' }, data: {} }
      expect(await refusal(() => buildPolicy(sources, options()))).to.include(
        '<product>/x.rego: names that start with <product>/ belong to the gateway',
      )
    })

    it('with data from elsewhere that lie in the gateway’s place', async () => {
      const sources = { rego: { 'p.rego': ALLOW }, data: { gateway: { authz: { deny: [] } } } }
      expect(await refusal(() => buildPolicy(sources, options()))).to.equal(
        'data.gateway.authz.deny belongs to the gateway\n  = decisions come from rules: put the data elsewhere and let a rule read it',
      )
    })

    it('and keeps control characters of a source away from the terminal', async () => {
      const text = await printed(() => build({ 'p.rego': 'package p\n\nq if input.x # \u001b[31m\u202e\n' }))
      expect(text).to.include('no such field').and.not.include('\u001b').and.not.include('\u202e')
    })
  })

  describe('makes a module', () => {
    it('with its dictionary, sources, names and digests', async () => {
      const sources = await load({ 'p.rego': ALLOW, 'x/data.json': '{"y": 1}' })
      const policy = await buildPolicy(sources, options())
      expect(policy.entrypoints).to.deep.equal([...ENTRYPOINTS, LIST_READS.as, LISTED.as])
      expect(policy.digest).to.match(/^sha256:[0-9a-f]{64}$/)
      expect(policy.revision).to.match(/^[0-9a-f]{12}$/)
      expect(policy.opa).to.equal('1.22.0')
      expect(policy.data).to.deep.equal({ x: { y: 1 } })
      expect(Object.keys(policy.sources)).to.deep.equal(['p.rego', '<product>/gateway.rego'])
      expect(Object.isFrozen(policy)).to.equal(true)
      const [rule] = policy.dictionary.rules.filter((each) => each.file === 'p.rego')
      expect(rule).to.include({
        path: 'data.gateway.authz.allow',
        row: 3,
        constant: '"anyone"',
        kind: 'rule',
      })
    })

    it('whose revision changes with sources and data, and with nothing else', async () => {
      const revisions = await Promise.all([
        build({ 'p.rego': ALLOW }),
        build({ 'p.rego': ALLOW }),
        build({ 'p.rego': `${ALLOW}\n` }),
        build({ 'q.rego': ALLOW }),
        build({ 'p.rego': ALLOW, 'data.json': '{"a": 1}' }),
      ])
      expect(revisions[0]?.revision).to.equal(revisions[1]?.revision)
      expect(revisions[0]?.digest).to.equal(revisions[1]?.digest)
      expect(new Set(revisions.map((policy) => policy.revision)).size).to.equal(4)
    })

    it('that denies when nothing allows', async () => {
      const policy = await build({ 'p.rego': 'package helpers\n\nx := 1\n' })
      expect(await evaluate(policy, 'gateway/decision', CALL)).to.deep.equal({
        allow: false,
        allowed_by: [],
        denied_by: [],
        limits: [],
        obligations: [],
        mask: [],
      })
    })

    it('that allows for a reason, without deny, limits or obligations being defined', async () => {
      expect(await evaluate(await build({ 'p.rego': ALLOW }), 'gateway/decision', CALL)).to.deep.equal({
        allow: true,
        allowed_by: ['anyone'],
        denied_by: [],
        limits: [],
        obligations: [],
        mask: [],
      })
    })

    it('in which deny wins, and limits and obligations come through', async () => {
      const policy = await build({
        'p.rego': `${ALLOW}
deny contains "by-name" if input.target.name == "write"

limits contains {"name": "per-tool", "key": [input.principal.id], "limit": 3, "window_s": 60, "cost": 1}

obligations contains {"kind": "log"} if input.principal.id == "ann"
`,
      })
      const denied = { ...CALL, target: { ...CALL.target, name: 'write' } }
      expect(await evaluate(policy, 'gateway/decision', denied)).to.deep.equal({
        allow: false,
        allowed_by: ['anyone'],
        denied_by: ['by-name'],
        limits: [{ name: 'per-tool', key: ['ann'], limit: 3, window_s: 60, cost: 1 }],
        obligations: [{ kind: 'log' }],
        mask: [],
      })
      expect(await evaluate(policy, 'gateway/decision', CALL)).to.include({ allow: true })
    })

    it('that judges the targets of a list in their order, each as if it were called', async () => {
      const policy = await build({
        'p.rego': `${ALLOW}\ndeny contains "by-name" if startswith(input.target.name, "w")\n`,
      })
      const { target, ...rest } = CALL
      const targets = ['write', 'read', 'wipe', 'read'].map((name) => ({ ...target, name }))
      const result = await evaluate(policy, 'gateway/visible', { ...rest, phase: 'list', targets })
      expect(result).to.deep.equal(
        targets.map(({ name }) => ({
          name,
          allow: name === 'read',
          allowed_by: ['anyone'],
          denied_by: name === 'read' ? [] : ['by-name'],
        })),
      )
      expect(
        await evaluate(policy, 'gateway/visible', { ...rest, phase: 'list', targets: [] }),
      ).to.deep.equal([])
      expect(await evaluate(policy, 'gateway/visible', rest)).to.deep.equal([])
    })

    it('from an empty input that allows nothing', async () => {
      const policy = await build({ 'p.rego': ALLOW })
      expect(await evaluate(policy, 'gateway/decision', {})).to.include({ allow: false })
    })

    it('whose product rules are marked as such', async () => {
      const policy = await build({ 'p.rego': ALLOW })
      const own = policy.dictionary.rules.filter((rule) => rule.file.startsWith('<product>/'))
      expect(new Set(own.map((rule) => rule.path))).to.include.keys(
        'data.gateway.decision',
        'data.gateway.visible',
      )
    })
  })

  describe('keeps finished builds', () => {
    let cache: string
    let sources: PolicySources

    beforeEach(async () => {
      cache = join(await mkdtemp(join(folder, 'cache-')), 'builds')
      sources = await load({ 'p.rego': ALLOW })
      await buildPolicy(sources, options(cache))
      builds = 0
    })

    async function entry(): Promise<string> {
      const names = await readdir(cache)
      expect(names).to.have.length(1)
      return join(cache, names[0] ?? '')
    }

    it('and takes the same policy from there', async () => {
      const first = await buildPolicy(sources, options())
      const kept = await buildPolicy(sources, options(cache))
      expect(builds).to.equal(1)
      expect({ ...kept, wasm: Buffer.from(kept.wasm) }).to.deep.equal({
        ...first,
        wasm: Buffer.from(first.wasm),
      })
      expect(await evaluate(kept, 'gateway/decision', CALL)).to.include({ allow: true })
    })

    it('for this user alone', async () => {
      expect((await stat(cache)).mode & 0o777).to.equal(0o700)
      expect((await stat(await entry())).mode & 0o777).to.equal(0o600)
    })

    it('and builds again when sources, data, schema or compiler differ', async () => {
      await buildPolicy({ ...sources, data: { a: 1 } }, options(cache))
      await buildPolicy({ ...sources, rego: { 'q.rego': ALLOW } }, options(cache))
      await buildPolicy(sources, {
        ...options(cache),
        inputSchema: { ...(await loadInputSchema()), title: 'other' },
      })
      const { compiler: counted } = options()
      await buildPolicy(sources, { compiler: { ...counted, digest: 'other' }, cacheDir: cache })
      expect(builds).to.equal(4)
      expect(await readdir(cache)).to.have.length(5)
    })

    it('and builds again what was cut, altered, emptied or put under another name', async () => {
      const path = await entry()
      const whole = await readFile(path)
      const altered = Buffer.from(whole)
      altered[whole.length - 100] = (altered[whole.length - 100] ?? 0) ^ 1
      for (const bytes of [whole.subarray(0, 1000), altered, Buffer.alloc(0)]) {
        await writeFile(path, bytes)
        await buildPolicy(sources, options(cache))
        expect((await readFile(path)).equals(whole)).to.equal(true)
      }
      const other: PolicySources = { rego: { 'p.rego': `${ALLOW}\ndeny contains "x"\n` }, data: {} }
      await buildPolicy(other, options(cache))
      for (const name of await readdir(cache)) await writeFile(join(cache, name), whole)
      expect(await evaluate(await buildPolicy(other, options(cache)), 'gateway/decision', CALL)).to.include({
        allow: false,
      })
      expect(builds).to.equal(5)
    })

    it('and only takes longer when nothing can be kept', async () => {
      await writeFile(join(folder, 'a-file'), '')
      await buildPolicy(sources, options(join(folder, 'a-file')))
      expect(builds).to.equal(1)
    })

    it('but no policy that does not build', async () => {
      const broken = await load({ 'p.rego': 'package p\n\nx if input.nothing\n' })
      await refusal(() => buildPolicy(broken, options(cache)))
      expect(await readdir(cache)).to.have.length(1)
    })
  })
})
