/**
 * `npm test [-- mocha arguments]`: installs and builds what is missing, then runs the tests; all of them, or the files
 * that are named.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureBuilt, ensureInstalled, fail, ROOT, requireNode } from './prepare.mjs'

requireNode()
await ensureInstalled()
await ensureBuilt()

const mocha = join(ROOT, 'node_modules/mocha/bin/mocha.js')
const child = spawn(process.execPath, [mocha, ...mochaArguments(process.argv.slice(2))], {
  cwd: ROOT,
  stdio: 'inherit',
})
// The tests get the terminal's Ctrl-C themselves and clean up; this process waits for them.
process.on('SIGINT', () => undefined)
process.on('SIGTERM', () => child.kill('SIGTERM'))
child.once('error', (error) => fail(`cannot run the tests: ${error.message}`))
child.once('exit', (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 1
})

/** mocha adds the files of its configuration to those on the command line; named files are meant to be the only ones. */
function mochaArguments(args) {
  const isNamed = args.some((arg) => /\.test\.ts$/.test(arg))
  if (!isNamed) return args
  const { spec, ...settings } = JSON.parse(readFileSync(join(ROOT, '.mocharc.json'), 'utf8'))
  const given = Object.entries(settings).flatMap(([name, value]) => toFlags(name, value))
  return ['--no-config', ...given, ...args]
}

function toFlags(name, value) {
  if (Array.isArray(value)) return value.flatMap((one) => toFlags(name, one))
  if (typeof value === 'boolean') return [value ? `--${name}` : `--no-${name}`]
  return [`--${name}`, String(value)]
}
