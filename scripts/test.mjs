/** `npm test [-- mocha arguments]`: installs and builds what is missing, then runs the tests. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { ensureBuilt, ensureInstalled, fail, requireNode, ROOT } from './prepare.mjs'

requireNode()
await ensureInstalled()
await ensureBuilt()

const mocha = join(ROOT, 'node_modules/mocha/bin/mocha.js')
const child = spawn(process.execPath, [mocha, ...process.argv.slice(2)], { cwd: ROOT, stdio: 'inherit' })
// The tests get the terminal's Ctrl-C themselves and clean up; this process waits for them.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
child.once('error', (error) => fail(`cannot run the tests: ${error.message}`))
child.once('exit', (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 1
})
