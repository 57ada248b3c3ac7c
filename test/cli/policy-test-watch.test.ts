import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { createFolders } from '../policy/testing/folder.ts'
import { until } from '../support/until.ts'

const PROGRAM = fileURLToPath(new URL('../../src/cli/gateway.ts', import.meta.url))
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const SCRIPT = '/usr/bin/script'
const WAIT_MS = 40_000

const POLICY = `package gateway.authz

allow contains "eng" if "eng" in input.principal.roles
`
const TABLE = (name: string) => `fixtures:
  principals: { eng: { roles: [eng] }, ops: {} }
  tools: { read: { server: s } }
cases:
  - { name: may, principal: eng, tool: read, expect: { allowed_by: [eng] } }
  - { name: ${name}, principal: ops, tool: read }
`
const RULES = `package p_test

import data.gateway.authz

test_nobody if count(authz.allow) == 0 with input.principal.roles as []
`
const FILES = { 'authz/p.rego': POLICY, 'cases/a.yaml': TABLE('may not'), 'authz/p_test.rego': RULES }

/** A program that watches, and what it has said so far. */
interface Watching {
  readonly child: ChildProcessWithoutNullStreams
  text(): string
  /** What it says behind what it had said when this was called, once that holds all of `parts`. */
  next(...parts: readonly (string | RegExp)[]): Promise<string>
}

describe('gateway policy test --watch', function () {
  this.timeout(120_000)
  const folders = createFolders('gateway-watch-')
  const children: ChildProcessWithoutNullStreams[] = []
  afterEach(async () => {
    for (const child of children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGKILL')
      await once(child, 'close')
    }
  })
  after(() => folders.remove())

  function watch(command: readonly string[]): Watching {
    const [program = '', ...args] = command
    const child = spawn(program, args, { cwd: ROOT })
    children.push(child)
    let text = ''
    const add = (chunk: Buffer) => {
      text += chunk.toString('utf8')
    }
    child.stdout.on('data', add)
    child.stderr.on('data', add)
    let seen = 0
    return {
      child,
      text: () => text,
      async next(...parts) {
        const found = await until(
          `${parts.join(' and ')} in ${text}`,
          () => {
            const rest = text.slice(seen)
            const all = parts.every((part) =>
              typeof part === 'string' ? rest.includes(part) : part.test(rest),
            )
            // Behind the last line a terminal has the place for a prompt.
            return all && rest.replaceAll('\r\u001b[K', '').endsWith('\n') ? rest : null
          },
          WAIT_MS,
        )
        seen += found.length
        return found
      },
    }
  }
  const program = (folder: string, ...args: readonly string[]) => [
    process.execPath,
    '--import=tsx/esm',
    PROGRAM,
    'policy',
    'test',
    folder,
    '--watch',
    ...args,
  ]

  /** Processes below one, as /proc has them; none where there is no /proc. */
  function descendants(pid: number): readonly number[] {
    if (!existsSync('/proc/self/stat')) return []
    const parents = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .flatMap((name) => {
        try {
          const fields = readFileSync(`/proc/${name}/stat`, 'utf8')
            .replace(/^.*\) /s, '')
            .split(' ')
          return [{ pid: Number(name), parent: Number(fields[1]), isZombie: fields[0] === 'Z' }]
        } catch {
          return [] // it has ended meanwhile
        }
      })
    const below = (parent: number): readonly number[] =>
      parents
        .filter((one) => one.parent === parent && !one.isZombie)
        .flatMap((one) => [one.pid, ...below(one.pid)])
    return below(pid)
  }

  const isAlive = (pid: number): boolean => {
    try {
      return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
    } catch {
      return false
    }
  }

  async function ends({ child }: Watching, signal: NodeJS.Signals): Promise<void> {
    const below = descendants(child.pid ?? 0)
    child.kill(signal)
    const [code] = await once(child, 'close')
    expect(code).to.equal(0)
    await until('the end of its processes', () => below.every((pid) => !isAlive(pid)))
  }

  it('tells of every save what came of it: green, broken, not compiling, mended, gone; Ctrl-C ends it', async () => {
    const folder = await folders.make(FILES)
    const watching = watch(program(folder))
    const first = await watching.next('3 passed')
    expect(first).to.match(
      /^(testing the policies \.\.\.\n)?\d\d:\d\d:\d\d {2}started {3}build \d+ ms {3}run \d+ ms {3}ok\n/,
    )

    await writeFile(join(folder, 'authz/p.rego'), POLICY.replace('"eng" in', '"dev" in'))
    const broken = await watching.next('1 failed')
    expect(broken).to.match(/authz\/p\.rego saved .* 1 FAILED \(all held at \d\d:\d\d:\d\d\)\n/)
    expect(broken)
      .to.include('FAIL  cases/a.yaml:5  may  [eng, read]')
      .and.include('why: line 3 is false here')

    await writeFile(join(folder, 'authz/p.rego'), `${POLICY}\nx if input.usr\n`)
    const syntax = await watching.next('P101')
    expect(syntax).to.match(/authz\/p\.rego saved {3}1 error, no test ran \(all tests held at /)
    expect(syntax).to.include('5 | x if input.usr')

    // As most editors save: another file under the old name.
    await writeFile(join(folder, 'authz/.p.rego.tmp'), POLICY)
    await rename(join(folder, 'authz/.p.rego.tmp'), join(folder, 'authz/p.rego'))
    expect(await watching.next('3 passed')).to.match(/authz\/p\.rego saved .* ok\n/)

    await writeFile(join(folder, 'cases/b.yaml'), 'cases: [{ name: x }]\n')
    expect(await watching.next('P303')).to.include('cases/b.yaml saved   1 error')
    await rm(join(folder, 'cases/b.yaml'))
    await watching.next('3 passed')

    await rename(folder, `${folder}-away`)
    expect(await watching.next('cannot be read')).to.include('1 error, no test ran')
    await rename(`${folder}-away`, folder)
    await watching.next('3 passed')

    expect(watching.text()).to.not.include('\u001b')
    await ends(watching, 'SIGINT')
  })

  it('ends at once when it is stopped while it builds, and its compilers with it', async function () {
    if (!existsSync('/proc/self/stat')) this.skip()
    const watching = watch(program(await folders.make(FILES)))
    await until('a compiler', () => descendants(watching.child.pid ?? 0).length > 0, WAIT_MS)
    await ends(watching, 'SIGINT')
    expect(watching.text()).to.not.include('passed')
  })

  it('shows what broke just now before what was broken already', async () => {
    const folder = await folders.make({
      ...FILES,
      'cases/a.yaml': TABLE('may not').replace('allowed_by: [eng]', 'allowed_by: [other]'),
    })
    const watching = watch(program(folder))
    await watching.next('1 failed')
    await writeFile(
      join(folder, 'cases/a.yaml'),
      `${TABLE('may not').replace('allowed_by: [eng]', 'allowed_by: [other]')}  - { name: new, principal: eng, tool: read }\n`,
    )
    const text = await watching.next('2 failed')
    expect(text.indexOf('cases/a.yaml:7  new'))
      .to.be.greaterThan(0)
      .and.lessThan(text.indexOf('cases/a.yaml:5  may'))
    await ends(watching, 'SIGTERM')
  })

  it('writes one object per run for programs, coverage with it', async () => {
    const folder = await folders.make(FILES)
    const watching = watch(program(folder, '--json', '--coverage'))
    const started = JSON.parse(await watching.next('\n'))
    expect(started).to.deep.include({ why: 'started', total: 3, passed: 3, failed: 0 })
    expect(started.coverage).to.include({ expressions: 1, covered: 1, percent: 100 })
    expect(new Date(started.time).toISOString()).to.equal(started.time)
    await writeFile(join(folder, 'authz/p.rego'), `${POLICY}\nx if {\n`)
    const refused = JSON.parse(await watching.next('\n'))
    expect(refused.why).to.equal('authz/p.rego saved')
    expect(refused.errors[0]).to.include({ id: 'P105', file: 'authz/p.rego' })
    await ends(watching, 'SIGINT')
  })

  it('takes single keys on a terminal, and leaves the terminal as it was', async function () {
    if (!existsSync(SCRIPT) || process.platform !== 'linux') {
      console.log(`      skipped: no ${SCRIPT} to make a terminal with`)
      this.skip()
    }
    const folder = await folders.make({
      ...FILES,
      'cases/a.yaml': TABLE('may not').replace('allowed_by: [eng]', 'allowed_by: [other]'),
    })
    const quoted = program(folder)
      .map((word) => `'${word}'`)
      .join(' ')
    const command = `stty rows 24 cols 100; ${quoted}; echo code=$?; stty -a | grep -o -- '-\\?icanon'`
    const watching = watch([SCRIPT, '-qec', command, '/dev/null'])
    await watching.next('1 failed', '[q] quit')
    watching.child.stdin.write('f')
    expect(await watching.next('only what failed', '[q] quit')).to.include('(1 of 3 tests)')
    watching.child.stdin.write('\r')
    const all = await watching.next('all tests', '[q] quit')
    expect(all).to.match(/3: 2 passed, 1 failed in .* s\r?\n/)
    watching.child.stdin.write('pnot$')
    await until('the pattern', () => watching.text().endsWith('esc = back): not$'))
    watching.child.stdin.write('\u007f\r')
    const some = await watching.next('tests that match not', '[q] quit')
    expect(some).to.include('1 passed in').and.include('(1 of 3 tests)').and.not.include('FAIL')
    watching.child.stdin.write('c')
    const covered = await watching.next('with coverage', '[q] quit')
    expect(covered).to.include('coverage 0.0 % of 1 expression')
    watching.child.stdin.write('p(')
    watching.child.stdin.write('\r')
    await until('the problem', () => watching.text().endsWith('(   (no regular expression)'))
    watching.child.stdin.write('\u001b')
    watching.child.stdin.write('\r')
    expect(await watching.next('all tests, with coverage', '[q] quit')).to.include('1 failed')
    watching.child.stdin.write('q')
    expect(await watching.next('code=', 'icanon')).to.match(/code=0\r?\nicanon/)
  })
})
