/**
 * `npm test [-- mocha arguments]`: installs and builds what is missing, then runs the tests; all of them, or the files
 * that are named.
 */
import { spawn } from 'node:child_process'
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

/** The files that are named are the only ones; without names all are meant. */
function mochaArguments(args) {
  const isNamed = args.some((arg) => /\.test\.ts$/.test(arg))
  return isNamed ? args : [...args, 'test/**/*.test.ts']
}
