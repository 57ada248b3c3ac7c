/** `npm test [-- mocha arguments]`: installs and builds what is missing, then runs the tests. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { ensureBuilt, ensureInstalled, fail, ROOT, requireNode } from './prepare.mjs'

requireNode()
await ensureInstalled()
await ensureBuilt()

const mocha = join(ROOT, 'node_modules/mocha/bin/mocha.js')
const given = process.argv.slice(2)
// Mocha adds the files of its configuration to those on the command line: the default stands here instead.
const files = given.some((argument) => argument === '--spec' || argument.includes('.test.ts'))
  ? []
  : ['test/**/*.test.ts']
const child = spawn(process.execPath, [mocha, ...given, ...files], { cwd: ROOT, stdio: 'inherit' })
// The tests get the terminal's Ctrl-C themselves and clean up; this process waits for them.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
child.once('error', (error) => fail(`cannot run the tests: ${error.message}`))
child.once('exit', (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 1
})
