/** `npm run bench`: every benchmark, one after the other, so that none disturbs another. About four minutes. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const PROGRAMS = ['policy.ts', 'policy-test.ts', 'line.ts', 'rate.ts', 'start.ts', 'validate.ts']

for (const program of PROGRAMS) {
  console.log(`\n== ${program}`)
  const file = fileURLToPath(new URL(program, import.meta.url))
  const { status } = spawnSync(process.execPath, ['--import=tsx/esm', file], { stdio: 'inherit' })
  if (status !== 0) process.exitCode = 1
}
