/**
 * Runs the public conformance suite and reads what it found. The suite stands in a folder of its own, `suite/`, with its
 * own lock file and the Node it needs, so that none of it gets among the product's dependencies.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** With packages of its own. */
export const SUITE_FOLDER = fileURLToPath(new URL('./suite/', import.meta.url))
/** The Node they need. */
export const SUITE_NODE = join(SUITE_FOLDER, 'node_modules/node/bin/node')
const PROGRAM = join(SUITE_FOLDER, 'node_modules/@modelcontextprotocol/conformance/dist/index.js')
const TIMEOUT_MS = 120_000

/** Sets of scenarios, as the suite's command line names them: frozen requirements where a revision has them. */
export const REVISIONS = {
  '2025-03-26': ['--suite', 'all', '--spec-version', '2025-03-26'],
  '2025-06-18': ['--suite', 'all', '--spec-version', '2025-06-18'],
  '2025-11-25': ['--requirements', '2025-11-25'],
  '2026-07-28': ['--requirements', '2026-07-28'],
} as const

export type Revision = keyof typeof REVISIONS

/** What one run found. */
export interface Found {
  readonly passed: number
  readonly failed: number
  /** Of the process: 0 when nothing that is scored has failed. */
  readonly exitCode: number | null
  /** By scenario: its checks in order, each as `id: STATUS`. */
  readonly scenarios: ReadonlyMap<string, readonly string[]>
}

/** Installs the packages of the folder's lock file; quick when they are there. */
export async function ensureSuite(): Promise<void> {
  const args = ['install', '--no-save', '--prefer-offline', '--no-audit', '--no-fund']
  const { code, output } = await run('npm', args, {})
  if (code !== 0) throw new Error(`npm install in ${SUITE_FOLDER} ended with ${code}:\n${output}`)
}

/** Runs the set of one revision against a server; with a key when it wants one. */
export async function runSuite(url: string, revision: Revision, key?: string): Promise<Found> {
  const results = await mkdtemp(join(tmpdir(), 'conformance-'))
  try {
    const preload = key === undefined ? [] : ['--import', join(SUITE_FOLDER, 'credential.mjs')]
    const args = [...preload, PROGRAM, 'server', '--url', url, ...REVISIONS[revision], '-o', results]
    const environment = key === undefined ? {} : { SUITE_KEY: key, SUITE_ORIGIN: new URL(url).origin }
    const { code, output } = await run(SUITE_NODE, args, environment)
    const scenarios = await readScenarios(results)
    if (scenarios.size === 0) throw new Error(`The suite has run no scenario:\n${output}`)
    const checks = [...scenarios.values()].flat()
    const count = (status: string): number => checks.filter((check) => check.endsWith(`: ${status}`)).length
    return { passed: count('SUCCESS'), failed: count('FAILURE'), exitCode: code, scenarios }
  } finally {
    await rm(results, { recursive: true, force: true })
  }
}

/** Scenarios whose checks are not the same in both runs, with what differs. */
export function differences(direct: Found, through: Found): string[] {
  const names = new Set([...direct.scenarios.keys(), ...through.scenarios.keys()])
  return [...names].flatMap((name) => {
    const [here, there] = [direct.scenarios.get(name) ?? [], through.scenarios.get(name) ?? []]
    const differ = [
      ...here.filter((check) => !there.includes(check)).map((check) => `${name}: direct ${check}`),
      ...there.filter((check) => !here.includes(check)).map((check) => `${name}: gateway ${check}`),
    ]
    const isSame = differ.length === 0 && here.length === there.length
    return isSame || differ.length > 0 ? differ : [`${name}: ${here.length} checks, ${there.length} there`]
  })
}

/** One folder for each scenario: `server-NAME-TIME/checks.json`. */
async function readScenarios(results: string): Promise<Map<string, string[]>> {
  const scenarios = new Map<string, string[]>()
  for (const folder of (await readdir(results)).sort()) {
    const [, name] = /^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$/.exec(folder) ?? []
    if (name === undefined) throw new Error(`Results in a folder of another form: ${folder}`)
    // A scenario that broke off has left none.
    const text = await readFile(join(results, folder, 'checks.json'), 'utf8').catch(() => '[]')
    const checks = JSON.parse(text) as { readonly id: string; readonly status: string }[]
    scenarios.set(
      name,
      checks.map(({ id, status }) => `${id}: ${status}`),
    )
  }
  return scenarios
}

/** Runs a program in the folder and waits for its end. */
async function run(
  program: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<{ code: number | null; output: string }> {
  const child = spawn(program, args, {
    cwd: SUITE_FOLDER,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: TIMEOUT_MS,
  })
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk))
  return await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, output: Buffer.concat(chunks).toString() }))
  })
}
