import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { createOutput } from '../../src/cli/output.ts'
import { UsageError } from '../../src/errors.ts'
import { VERSION } from '../../src/version.ts'
import { errorOf, runCli, withEnvironment } from '../support/cli.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

async function program(...args: readonly string[]): Promise<string> {
  const { code, out, err } = await runCli(args)
  expect(code, err).to.equal(0)
  return out
}

/** `code` and `exit` of the page's table. */
function listedCodes(): ReadonlyMap<string, number> {
  const page = readFileSync(join(ROOT, 'docs/reference/cli.md'), 'utf8')
  return new Map(
    [...page.matchAll(/^\| `([a-z_]+)` \| (\d+) \|/gm)].map(([, code = '', exit]) => [code, Number(exit)]),
  )
}

/** Every code that a UsageError is made with; those that are chosen from a table stand in a list of their own. */
function usedCodes(): ReadonlySet<string> {
  const codes = new Set<string>()
  for (const entry of readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })) {
    if (!entry.endsWith('.ts')) continue
    const text = readFileSync(join(ROOT, 'src', entry), 'utf8')
    for (const [, code = ''] of text.matchAll(/new UsageError\(\s*'([a-z_]+)'/g)) codes.add(code)
    if (!/^db\/usage-error\.ts$/.test(entry)) continue
    for (const [, code = ''] of text.matchAll(/\[?\s*'(unreachable|schema_rights|[a-z]+_[a-z]+)',/g))
      codes.add(code)
  }
  return codes
}

describe('the reference of the command line', () => {
  it('lists every error code that is used, and no other', () => {
    expect([...usedCodes(), 'internal']).to.have.members([...listedCodes().keys()])
  })

  it('says with which exit code each ends', () => {
    for (const [code, exit] of listedCodes()) {
      const silent = new PassThrough()
      const out = createOutput({}, { stdout: silent, stderr: silent })
      const error = code === 'internal' ? new TypeError('x') : new UsageError(code, 'x')
      expect(out.fail(error), code).to.equal(exit)
    }
  })

  it('is right about errors under --json: one line, nothing on stdout', async () => {
    for (const args of [
      ['nonsense'],
      ['config', 'show', '--config', '/nowhere.yaml'],
      ['connect', 'x'],
      ['init', '--url', 'x'],
    ]) {
      const result = await runCli([...args, '--json'])
      expect(result).to.include({ code: 2, out: '' })
      expect(result.err.trimEnd().split('\n')).to.have.length(1)
      expect([...listedCodes().keys()]).to.include(errorOf(result).code)
    }
  })

  it('holds for every command there is: help with an example, and --json', async () => {
    const commands = await commandsBelow([])
    expect(commands.length).to.be.greaterThan(20)
    for (const command of commands) {
      const help = await program(...command, '--help')
      expect(help, command.join(' '))
        .to.match(/^Examples:$/m)
        .and.include('--json')
    }
  })

  async function commandsBelow(path: readonly string[]): Promise<(readonly string[])[]> {
    const help = await program(...path, '--help')
    const [, list] = /^Commands:\n((?: {2,}.*\n)+)/m.exec(help) ?? []
    if (list === undefined) return [path]
    const prefix = ` {2}gateway ${path.map((name) => `${name} `).join('')}`
    const names = [...list.matchAll(new RegExp(`^${prefix}([a-z-]+)`, 'gm'))].map(([, name = '']) => name)
    const below = await Promise.all(
      names.filter((name) => name !== 'completion').map((name) => commandsBelow([...path, name])),
    )
    return below.flat()
  }

  const inShell = (shell: string, ...args: string[]) =>
    withEnvironment({ SHELL: shell, ZSH_NAME: undefined }, () => program(...args))

  it('has completion for bash and zsh, down to the commands of a group', async () => {
    expect(await inShell('/bin/bash', 'completion')).to.include('complete -o bashdefault')
    expect(await inShell('/bin/zsh', 'completion')).to.match(/^#compdef gateway/)
    const complete = async (...words: string[]) =>
      (await inShell('/bin/bash', '--get-yargs-completions', 'gateway', ...words)).split('\n')
    expect(await complete('')).to.include.members([
      'serve',
      'init',
      'doctor',
      'connect',
      'keys',
      'audit',
      'policy',
    ])
    expect(await complete('')).to.not.include('demo-keys')
    expect(await complete('keys', '')).to.include.members(['create', 'list', 'revoke', 'rotate'])
    expect(await complete('connect', '--')).to.include.members(['--server', '--write', '--json'])
  })

  it('names the version of the package', async () => {
    expect(await program('--version')).to.equal(`${VERSION}\n`)
  })
})
