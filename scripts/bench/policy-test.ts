/**
 * How soon an author of policies knows: `gateway policy test` from nothing, and `--watch` from saving a file to its result, on a
 * folder of 50 files and 2,000 lines. About half a minute.
 *
 *     node --import=tsx/esm scripts/bench/policy-test.ts [saves]
 */
import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { loadavg, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { moduleFile, moduleText, writePolicyFolder } from './policy-folder.ts'

const SAVES = Number(process.argv[2] ?? 7)
/** The build that is shipped: loading the sources through a compiler would be measured, too. */
const PROGRAM = resolve('dist/cli/gateway.js')

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
  try {
    const { files, lines } = await writePolicyFolder(folder)
    console.log(`${files} files, ${lines} lines; load average ${loadavg()[0]?.toFixed(1)}`)
    tell('policy test ./policies, nothing cached', await repeat(3, () => cold(resolve('policies'))))
    tell('policy test of the folder, nothing cached', await repeat(3, () => cold(folder)))
    const saves = await watched(folder)
    tell('saving a policy file to its result (--watch)', saves.policy)
    tell('saving a table to its result (--watch)', saves.table)
  } finally {
    await rm(folder, { recursive: true })
  }
}

function tell(what: string, times: readonly number[]): void {
  const sorted = [...times].sort((a, b) => a - b)
  const at = (part: number) => Math.round(sorted[Math.floor((sorted.length - 1) * part)] ?? 0)
  console.log(
    `${what.padEnd(46)} median ${at(0.5)} ms   best ${at(0)}   worst ${at(1)}   of ${sorted.length}`,
  )
}

async function repeat(count: number, run: () => Promise<number>): Promise<readonly number[]> {
  const times: number[] = []
  for (let index = 0; index < count; index += 1) times.push(await run())
  return times
}

/** A process of its own with no configuration, so without a folder of finished builds. */
async function cold(folder: string): Promise<number> {
  const from = performance.now()
  const child = start([folder])
  child.stdout.resume()
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`the tests ended with ${code}`)
  return performance.now() - from
}

function start(args: readonly string[]): ChildProcessWithoutNullStreams {
  const child = spawn(process.execPath, [PROGRAM, 'policy', 'test', ...args, '--json'], { cwd: tmpdir() })
  child.stderr.pipe(process.stderr)
  return child
}

async function watched(
  folder: string,
): Promise<{ readonly policy: readonly number[]; readonly table: readonly number[] }> {
  const child = start([folder, '--watch'])
  try {
    const results = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    await results.next()
    const save = async (file: string, text: string): Promise<number> => {
      await new Promise((done) => setTimeout(done, 1000)) // an author thinks, and the machine rests
      const from = performance.now()
      await writeFile(join(folder, file), text)
      const { value } = await results.next()
      if (!String(value).includes('"results"')) throw new Error(`no result: ${String(value).slice(0, 200)}`)
      return performance.now() - from
    }
    const policy: number[] = []
    // The first saves find processes that have not got warm yet.
    for (let index = -2; index < SAVES; index += 1) {
      const ms = await save(moduleFile(3), moduleText(3, 20 + index))
      if (index >= 0) policy.push(ms)
    }
    const table = await repeat(3, () => save('cases/more.yaml', moreCases()))
    return { policy, table }
  } finally {
    child.kill('SIGINT')
    await once(child, 'close')
  }
}

let made = 0

function moreCases(): string {
  made += 1
  return `fixtures: { principals: { bob: {} }, tools: { pay: { server: bank } } }
cases: [{ name: number ${made}, principal: bob, tool: pay }]
`
}

await main()
