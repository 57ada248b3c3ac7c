/**
 * `npm run test:crash [-- --kills 50 --modes batch,durable,blocking --seed 1]`: what the audit log promises, under kill -9.
 * Prints a table; exit code 1 when any promise was broken. About two minutes for each mode.
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { CrashOptions, CrashReport } from '../test/crash/harness.ts'
import { crashRun } from '../test/crash/harness.ts'

/** The build: it starts faster than the sources. */
const BUILT = fileURLToPath(new URL('../dist/cli/gateway.js', import.meta.url))
const MODES = ['batch', 'durable', 'blocking'] as const

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '50' },
      modes: { type: 'string', default: MODES.join(',') },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      clients: { type: 'string', default: '16' },
      gateways: { type: 'string', default: '3' },
    },
  })
  const kills = Number(values.kills)
  const modes = MODES.filter((mode) => values.modes.split(',').includes(mode))
  console.log(`seed ${values.seed}: --seed ${values.seed} gives the same moments again`)
  const reports: CrashReport[] = []
  for (const mode of modes) {
    reports.push(await crashRun(optionsOf(mode, kills, values)))
  }
  show(reports)
  if (reports.length === 0 || reports.some(({ violations }) => violations.length > 0)) process.exitCode = 1
}

function optionsOf(
  mode: CrashOptions['mode'],
  kills: number,
  values: { readonly seed: string; readonly clients: string; readonly gateways: string },
): CrashOptions {
  return {
    mode,
    kills,
    databaseStops: Math.ceil(kills / 10),
    gateways: Number(values.gateways),
    clients: Number(values.clients),
    seed: Number(values.seed),
    program: [BUILT],
    onProgress: (text) => process.stderr.write(`${text}\n`),
  }
}

const COLUMNS = [
  ...['mode', 'kills', 'databaseStops', 'acknowledged', 'rows', 'lost', 'doubled', 'interrupted', 'writers'],
  ...['undeclared', 'seconds'],
] as const

function show(reports: readonly CrashReport[]): void {
  const cells = reports.map((report) => {
    const values: Record<string, unknown> = { ...report, seconds: Math.round(report.seconds) }
    return COLUMNS.map((name) => String(values[name]))
  })
  for (const row of [COLUMNS, ...cells]) {
    console.log(row.map((cell, at) => cell.padStart(Math.max(10, (COLUMNS[at]?.length ?? 0) + 2))).join(''))
  }
  for (const { mode, violations } of reports)
    for (const text of violations) console.log(`${mode}: BROKEN: ${text}`)
  if (reports.every(({ violations }) => violations.length === 0)) console.log('every promise was kept')
}

await main()
