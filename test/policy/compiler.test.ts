import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'chai'
import type { BuildRequest, Compiler, CompilerOptions } from '../../src/policy/compiler.ts'
import { createCompiler } from '../../src/policy/compiler.ts'
import type { CompilerArtifact } from '../../src/policy/compiler-artifact.ts'
import { loadCompilerArtifact } from '../../src/policy/compiler-artifact.ts'
import { CompilerFault } from '../../src/policy/compiler-process.ts'

const SOURCES = {
  'tools.rego': 'package gateway.authz\n\ndeny contains "a" if {\n\tsome x in input.xs\n\tx > 1\n}\n',
  'more.rego': 'package gateway.authz\n\ndeny contains "b" if input.b\n\nallow contains "c" if input.c\n',
}
const REQUEST: BuildRequest = { sources: SOURCES, entrypoints: ['gateway/authz/deny'], instrument: true }

/** Topdown works on it for minutes. */
const ENDLESS = 'xs := numbers.range(1, 100000); count([1 | some a in xs; some b in xs; a * b < 0]) == 0'

describe('the Rego compiler', function () {
  this.timeout(60_000)
  let folder: string
  let artifact: CompilerArtifact
  let compiler: Compiler

  const open: Compiler[] = []
  function create(options: Partial<CompilerOptions> = {}): Compiler {
    const made = createCompiler({ artifact, ...options })
    open.push(made)
    return made
  }

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'compiler-test-'))
    artifact = await loadCompilerArtifact(folder)
    compiler = create()
  })

  after(async () => {
    await Promise.all(open.map((made) => made.close()))
    await rm(folder, { recursive: true, force: true })
  })

  it('is OPA 1.22.0', async () => {
    expect((await compiler.version()).opa).to.equal('1.22.0')
  })

  it('builds a module and the dictionary of its probes', async () => {
    const built = await compiler.build(REQUEST)
    if (!built.ok) throw new Error(JSON.stringify(built.errors))
    expect(built.wasm.subarray(0, 4).toString('latin1')).to.equal('\0asm')
    expect(built.entrypoints).to.deep.equal(['gateway/authz/deny'])
    expect(built.dictionary?.rules.map((rule) => `${rule.file}:${rule.row} ${rule.text}`)).to.have.members([
      'tools.rego:3 deny contains "a"',
      'more.rego:3 deny contains "b"',
      'more.rego:5 allow contains "c"',
    ])
    for (const probe of ['gwtr.enter0', 'gwtr.ok1', 'gwtr.leave0'])
      expect(built.wasm.includes(`${probe}\0`)).to.equal(true)
  })

  it('builds without probes when they are not asked for', async () => {
    const built = await compiler.build({ ...REQUEST, instrument: false })
    expect(built.ok && built.dictionary === null && !built.wasm.includes('gwtr')).to.equal(true)
  })

  it('makes the same bytes from the same sources, in whatever order they come, in any process', async () => {
    const reversed = Object.fromEntries(Object.entries(SOURCES).reverse())
    const other = create()
    const [first, second] = await Promise.all([
      compiler.build(REQUEST),
      other.build({ ...REQUEST, sources: reversed }),
    ])
    expect(second).to.deep.equal(first)
    await other.close()
  })

  it('tells what is wrong, where, and the way out', async () => {
    const refused = await compiler.check({ sources: { 'a.rego': 'package a\n\np := sprintff("%s", [1])\n' } })
    expect(refused).to.deep.equal({
      ok: false,
      errors: [
        {
          file: 'a.rego',
          row: 3,
          col: 6,
          endCol: 25,
          code: 'rego_type_error',
          message: 'undefined function sprintff',
          hint: 'did you mean sprintf?',
          line: 'p := sprintff("%s", [1])',
        },
      ],
    })
  })

  it('checks, formats, lists what is read and which builtins there are', async () => {
    expect(await compiler.check({ sources: SOURCES })).to.deep.equal({ ok: true, unreachable: [] })
    expect(await compiler.format('a.rego', 'package a\np if {input.x}')).to.deep.equal({
      ok: true,
      formatted: 'package a\n\np if input.x\n',
    })
    const read = await compiler.dependencies({ sources: SOURCES, entrypoints: ['gateway/authz/allow'] })
    if (!read.ok) throw new Error(JSON.stringify(read.errors))
    expect(read).to.deep.include({ base: ['input.c'], virtual: ['data.gateway.authz.allow'] })
    expect(read.rules.map(({ rule, reachable, input }) => [rule, reachable, input])).to.deep.include.members([
      ['data.gateway.authz.deny', false, ['input.b']],
      ['data.gateway.authz.allow', true, ['input.c']],
    ])
    const { builtins, native } = await compiler.capabilities(['sprintf'])
    expect(builtins).to.include.members(['sprintf', 'count', 'print']).and.not.include('http.send')
    expect(native).to.include('count').and.not.include('sprintf')
  })

  it('evaluates with topdown, digits kept', async () => {
    const answer = await compiler.evaluate({
      sources: SOURCES,
      query: 'x = data.gateway.authz.deny; y = input.n == 9007199254740993',
      inputText: '{"xs": [2],\n "n": 9007199254740993}',
      trace: true,
    })
    if (!answer.ok) throw new Error(JSON.stringify(answer.errors))
    expect(answer.result).to.deep.equal([{ x: ['a'], y: true }])
    expect(
      answer.trace.some((event) => event.op === 'Exit' && event.rule === 'data.gateway.authz.deny'),
    ).to.equal(true)
  })

  it('does not take a text that is more than one JSON value', async () => {
    const query = compiler.evaluate({ sources: {}, query: 'x = 1', inputText: '1,"query":"x = 2"' })
    expect(await failure(query)).to.be.instanceOf(SyntaxError)
  })

  it('ends a request that takes too long, and answers the next one', async () => {
    const impatient = create({ timeoutMs: 3_000 })
    await impatient.version()
    const slow = impatient.evaluate({ sources: {}, query: ENDLESS })
    const next = impatient.version()
    expect(await failure(slow))
      .to.be.instanceOf(CompilerFault)
      .with.property('kind', 'timeout')
    expect((await next).opa).to.equal('1.22.0')
  })

  it('ends a child whose answer is too large, and answers the next request', async () => {
    const small = create({ maxAnswerBytes: 10_000 })
    expect(await failure(small.build(REQUEST))).to.have.property('kind', 'answer')
    expect((await small.version()).opa).to.equal('1.22.0')
  })

  it('fails what waits when it is closed, and everything after that', async () => {
    const closing = create()
    await closing.version()
    const waiting = [failure(closing.evaluate({ sources: {}, query: ENDLESS })), failure(closing.version())]
    await delay(0)
    await closing.close()
    for (const fault of [...(await Promise.all(waiting)), await failure(closing.version())]) {
      expect(fault).to.have.property('kind', 'closed')
    }
  })

  it('starts again after being idle', async () => {
    const lazy = create({ idleMs: 0 })
    await lazy.version()
    await delay(20)
    expect((await lazy.version()).opa).to.equal('1.22.0')
  })

  describe('as a child process', () => {
    /** A compiler whose program is this script. */
    async function scripted(text: string): Promise<Compiler> {
      const runner = join(folder, `runner-${Math.random().toString(36).slice(2)}.mjs`)
      await writeFile(runner, text)
      return create({ artifact: { ...artifact, runner } })
    }

    it('has nothing of our environment', async () => {
      const told = await scripted(
        `process.stdin.once('data', () => console.log(JSON.stringify({ id: 1, ok: true, opa: JSON.stringify(process.env), go: '' })))`,
      )
      expect(JSON.parse((await told.version()).opa)).to.deep.equal({})
    })

    it('that dies is told with its last words', async () => {
      const dying = await scripted(`console.error('out of everything'); process.exit(3)`)
      const fault = await failure(dying.version())
      expect(fault).to.have.property('kind', 'died')
      expect(String(fault)).to.include('code 3').and.include('out of everything')
    })

    it('that answers with garbage or another id is ended', async () => {
      for (const answer of ['"garbage"', '{"id":2}', 'no json']) {
        const wrong = await scripted(`process.stdin.once('data', () => console.log('${answer}'))`)
        expect(await failure(wrong.version())).to.have.property('kind', 'answer')
      }
    })

    it('that answers without what was asked for is a fault', async () => {
      const empty = await scripted(`process.stdin.once('data', () => console.log('{"id":1,"ok":true}'))`)
      expect(await failure(empty.version())).to.have.property('kind', 'answer')
    })

    for (const busy of [false, true]) {
      it(`ends when its parent is killed while it is ${busy ? 'busy' : 'waiting'}`, async () => {
        const request = busy ? { id: 1, op: 'eval', query: ENDLESS } : { id: 1, op: 'version' }
        const parent = spawn(
          process.execPath,
          [
            '-e',
            `const child = require('node:child_process').spawn(process.execPath, ['--liftoff-only', '--wasm-lazy-validation',
               ${JSON.stringify(artifact.runner)}, ${JSON.stringify(artifact.wasm)}, String(process.pid)], { stdio: ['pipe', 'pipe', 'ignore'] })
             child.stdin.write('{"id":0,"op":"version"}\\n')
             child.stdout.once('data', () => {
               child.stdin.write(${JSON.stringify(`${JSON.stringify(request)}\n`)})
               console.log(child.pid)
             })`,
          ],
          { stdio: ['ignore', 'pipe', 'ignore'] },
        )
        const [pid] = (await once(parent.stdout, 'data')) as [Buffer]
        parent.kill('SIGKILL')
        while (isAlive(Number(pid.toString()))) await delay(50)
      })
    }
  })

  describe('as a file', () => {
    it('is unpacked once, for this user alone', async () => {
      const before = await stat(artifact.wasm)
      expect(await loadCompilerArtifact(folder)).to.deep.equal(artifact)
      expect((await stat(artifact.wasm)).mtimeMs).to.equal(before.mtimeMs)
    })

    it('is unpacked by several at once without harm', async () => {
      const shared = join(folder, 'shared', 'deeper')
      const all = await Promise.all(Array.from({ length: 3 }, () => loadCompilerArtifact(shared)))
      expect(new Set(all.map((each) => each.wasm)).size).to.equal(1)
      if (all[0]?.wasm.startsWith(shared)) {
        expect(await readdir(shared)).to.have.length(1)
        expect((await stat(shared)).mode & 0o777).to.equal(0o700)
        expect((await stat(all[0].wasm)).mode & 0o777).to.equal(0o600)
      }
    })

    it('is unpacked again when it was cut or altered', async function () {
      const own = join(folder, 'altered')
      const { wasm } = await loadCompilerArtifact(own)
      if (!wasm.startsWith(own)) this.skip() // the build's own copy is in use
      const whole = await readFile(wasm)
      await truncate(wasm, 1000)
      await loadCompilerArtifact(own)
      expect((await readFile(wasm)).equals(whole)).to.equal(true)
      await writeFile(wasm, Buffer.from(whole).fill(0, 500_000, 500_001))
      await loadCompilerArtifact(own)
      expect((await readFile(wasm)).equals(whole)).to.equal(true)
    })
  })
})

async function failure(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise
  } catch (error) {
    return error
  }
  throw new Error('it did not fail')
}

/** Whether the process still runs; one that has ended and waits to be collected does not. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !/^State:\s+Z/m.test(
      existsSync('/proc/self/status') ? readFileSync(`/proc/${pid}/status`, 'utf8') : '',
    )
  } catch {
    return false
  }
}
