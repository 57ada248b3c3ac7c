/**
 * OPA's own evaluation cases, built plain and instrumented by the compiler and evaluated on the serving host. Both
 * modules must have the same outcome, the events of the instrumented one must be well formed, and the outcome must be
 * what OPA expects, apart from the differences listed here with their reasons.
 */
import { existsSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { HOST_BUILTINS } from '../../src/policy/builtins/table.ts'
import type { BuildRequest, Built, Compiler, PolicyError } from '../../src/policy/compiler.ts'
import { createCompiler } from '../../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../../src/policy/compiler-artifact.ts'
import type { Dictionary } from '../../src/policy/dictionary.ts'
import type { HostRun, PolicyHost } from '../../src/policy/host.ts'
import { createHost, DEFAULT_HOST_LIMITS } from '../../src/policy/host.ts'
import { meter } from '../../src/policy/meter.ts'

interface Case {
  readonly note: string
  readonly query: string
  readonly modules?: readonly string[]
  readonly data?: unknown
  readonly input?: unknown
  readonly input_term?: string
  readonly want_result?: readonly Readonly<Record<string, unknown>>[]
  readonly want_defined?: boolean
  readonly want_error?: string
  readonly want_error_code?: string
  readonly strict_error?: boolean
}

/** What became of a case. `expected` = outcome as OPA's; the other kinds carry the reason. */
interface Verdict {
  readonly note: string
  readonly kind: 'expected' | 'known_difference' | 'refused' | 'refused_as_expected' | 'failed'
  readonly text: string
}

const FILE = join(
  process.env['SHARED_DATA'] ?? fileURLToPath(new URL('../../../shared/data', import.meta.url)),
  'opa-cases.jsonl',
)
const ALL = process.env['OPA_CASES'] === 'all'
/** Without OPA_CASES=all every tenth case, which covers every group of the suite. */
const STEP = 10
const PROCESSES = 2

/** Differences of OPA's Wasm, or of this host, from topdown. None of them comes from the instrumentation. */
const KNOWN: readonly { readonly note: RegExp; readonly reason: string }[] = [
  { note: /^data\/(nested integer|toplevel integer)$/, reason: "OPA's Wasm finds no integer keys in data" },
  {
    note: /^jsonbuiltins\/unmarshal number .*exponent/,
    reason: "OPA's Wasm reads numbers beyond its range as null",
  },
]

/** Cases that this test cannot ask as they stand. */
const UNASKABLE: readonly { readonly note: RegExp; readonly reason: string }[] = [
  {
    note: /^topdowndynamicdispatch\/dynamic dispatch$/,
    reason: 'the query reads all of data, so no rule can hold it',
  },
]

describe(`OPA's own cases (${ALL ? 'all' : 'every tenth; OPA_CASES=all runs all of them'})`, function () {
  this.timeout(900_000)
  const compilers: Compiler[] = []
  let verdicts: readonly Verdict[] = []

  before(async function () {
    if (!existsSync(FILE)) {
      console.log(`      skipped: ${FILE} is not here (SHARED_DATA tells where it is)`)
      this.skip()
    }
    const artifact = await loadCompilerArtifact(join(tmpdir(), 'mcp-policy-gateway-test'))
    for (let i = 0; i < PROCESSES; i++) compilers.push(createCompiler({ artifact }))
    const lines = readFileSync(FILE, 'utf8').trim().split('\n')
    const cases = lines.filter((_, i) => ALL || i % STEP === 0).map((line) => JSON.parse(line) as Case)
    verdicts = await runAll(cases, compilers)
  })

  after(() => Promise.all(compilers.map((compiler) => compiler.close())))

  it('have the same outcome plain and instrumented, with well-formed events, and the outcome OPA expects', () => {
    report(verdicts)
    expect(lines(verdicts, 'failed')).to.equal('')
  })

  it('are refused only for builtins this host does not have, or because OPA expects it', () => {
    const missing = /undefined function|with keyword target must reference existing/
    const refused = verdicts.filter(
      ({ note, text }) => !missing.test(text) && !UNASKABLE.some((entry) => entry.note.test(note)),
    )
    expect(lines(refused, 'refused')).to.equal('')
  })
})

async function runAll(cases: readonly Case[], compilers: readonly Compiler[]): Promise<readonly Verdict[]> {
  const queue = [...cases]
  const verdicts: Verdict[] = []
  const work = async (compiler: Compiler) => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift())
      verdicts.push(await runCase(next, compiler))
  }
  await Promise.all(compilers.map(work))
  return verdicts
}

async function runCase(test: Case, compiler: Compiler): Promise<Verdict> {
  const { note } = test
  const request = toRequest(test)
  const [plain, instrumented] = await Promise.all([
    compiler.build({ ...request, instrument: false }),
    compiler.build({ ...request, instrument: true }),
  ])
  if (!plain.ok || !instrumented.ok) {
    const errors = JSON.stringify(refusal(plain))
    if (JSON.stringify(refusal(instrumented)) !== errors) {
      return {
        note,
        kind: 'failed',
        text: `refused differently: ${errors} / ${JSON.stringify(refusal(instrumented))}`,
      }
    }
    const expected = test.want_error_code?.startsWith('rego_') || test.want_error_code?.startsWith('parse')
    return { note, kind: expected ? 'refused_as_expected' : 'refused', text: errors }
  }
  const json = await inputText(test, compiler)
  const input = new TextEncoder().encode(json)
  const first = await evaluate(plain, test, input)
  const second = await evaluate(instrumented, test, input)
  const { dictionary } = instrumented
  if (dictionary === null) return { note, kind: 'failed', text: 'no dictionary' }
  const outcomes = [outcome(first), outcome(second)]
  if (outcomes[0] !== outcomes[1])
    return { note, kind: 'failed', text: `plain ${outcomes[0]}, instrumented ${outcomes[1]}` }
  const malformed = checkEvents(second, dictionary)
  if (malformed !== null) return { note, kind: 'failed', text: malformed }
  // Wasm has no strict mode: an error of a builtin is undefined, as it is in topdown without that mode.
  const difference = test.strict_error
    ? (await topdownAgrees(test, first, json, compiler))
      ? null
      : `${outcome(first)}, but topdown gives something else`
    : compare(test, first)
  if (difference === null) return { note, kind: 'expected', text: '' }
  const odd = oddInput(test, json)
  if (odd !== null && (await topdownAgrees(test, first, json, compiler))) {
    return { note, kind: 'known_difference', text: odd }
  }
  const known = KNOWN.find((entry) => entry.note.test(note))
  if (known !== undefined) return { note, kind: 'known_difference', text: known.reason }
  return { note, kind: 'failed', text: difference }
}

function toRequest(test: Case): Omit<BuildRequest, 'instrument'> {
  const sources = Object.fromEntries((test.modules ?? []).map((text, i) => [`module-${i}.rego`, text]))
  const path = simplePath(test.query)
  const common = { data: test.data ?? {}, builtins: [...HOST_BUILTINS], lenient: true }
  if (path !== null) return { ...common, sources, entrypoints: [path] }
  const names = Object.keys(test.want_result?.[0] ?? {})
  const head = `{${names.map((name) => `${JSON.stringify(name)}: ${name}`).join(', ')}}`
  const query = `package query\n\nanswers contains ${names.length > 0 ? head : 'true'} if {\n\t${test.query.trim()}\n}\n`
  return { ...common, sources: { ...sources, 'query.rego': query }, entrypoints: ['query/answers'] }
}

/** The entrypoint of a query that only asks for a document; null for any other query. */
function simplePath(query: string): string | null {
  const match = /^data((?:\.[A-Za-z_]\w*)+) = x$/.exec(query.trim())
  return match?.[1] === undefined ? null : match[1].slice(1).replaceAll('.', '/')
}

async function inputText(test: Case, compiler: Compiler): Promise<string> {
  if (test.input_term === undefined) return JSON.stringify(test.input ?? {})
  const term = await compiler.evaluate({ sources: {}, query: 'x = input', inputTerm: test.input_term })
  return JSON.stringify(term.ok ? (term.result[0]?.['x'] ?? {}) : {})
}

async function evaluate(built: Built, test: Case, input: Uint8Array<ArrayBuffer>): Promise<HostRun | string> {
  const known = new Set(
    [...(built.dictionary?.rules ?? []), ...(built.dictionary?.exprs ?? [])].map((probe) => probe.id),
  )
  let host: PolicyHost
  try {
    host = await createHost({
      wasm: meter(built.wasm),
      dataText: JSON.stringify(test.data ?? {}),
      knowsProbe: (probe) => known.has(probe.id),
      limits: {
        ...DEFAULT_HOST_LIMITS,
        fuel: 2_000_000_000,
        maxResultBytes: 1 << 24,
        events: { maxLogged: 60_000, maxPerProbe: 60_000, maxEvents: 2_000_000 },
      },
    })
  } catch (error) {
    return `not loaded: ${String(error)}`
  }
  const entrypoint = built.entrypoints[0] ?? ''
  return host.evaluate({ entrypoint, input, nowNs: 1_700_000_000_000_000_000n, record: true })
}

/** Result or fault as text; arrays keep their order, because both modules must agree in that as well. */
function outcome(run: HostRun | string): string {
  if (typeof run === 'string') return run
  if (run.fault !== null) return `${run.fault.kind}: ${run.fault.message}`
  return run.result === undefined ? 'undefined' : sorted(run.result)
}

/** Every enter has its leave, nothing stands outside a frame, an expression belongs to the definition around it. */
function checkEvents(run: HostRun | string, dictionary: Dictionary): string | null {
  if (typeof run === 'string') return null
  const { events, dropped } = run.recording()
  if (dropped > 0) return null
  const owners = new Map(dictionary.exprs.map((probe) => [probe.id, probe.rule]))
  const open: number[] = []
  for (const { op, id } of events) {
    if (op === 'enter') open.push(id)
    else if (op === 'leave') {
      if (open.pop() !== id) return `leave${id} without its enter`
    } else if (open.at(-1) !== owners.get(id)) return `${op}${id} outside its definition`
  }
  return open.length === 0 || run.fault !== null ? null : 'definitions were not left'
}

/** null when the outcome is the one OPA expects; builtin errors are undefined in Wasm. */
function compare(test: Case, run: HostRun | string): string | null {
  const got = outcome(run)
  if (typeof run === 'string') return run
  const wantsError = test.want_error !== undefined || test.want_error_code !== undefined
  if (wantsError) return run.fault === null ? `no error but ${got}` : null
  if (run.fault !== null) return got
  const wanted = test.want_result
  if (wanted === undefined) return test.want_defined === (run.result !== undefined) ? null : got
  const simple = simplePath(test.query) !== null
  const results = simple ? (run.result === undefined ? [] : [{ x: run.result }]) : answers(run.result, wanted)
  return sorted(results) === sorted(wanted) ? null : `${sorted(results)} instead of ${sorted(wanted)}`
}

/** Why the host cannot have the case's own input; null when it has. */
function oddInput(test: Case, json: string): string | null {
  if (test.input_term === undefined) return test.input === undefined ? 'the host always has an input' : null
  return json === test.input_term ? null : 'the input is no JSON'
}

/** Whether topdown gives the same answer for the input that the host had. */
async function topdownAgrees(
  test: Case,
  run: HostRun | string,
  json: string,
  compiler: Compiler,
): Promise<boolean> {
  const { sources, entrypoints, builtins } = toRequest(test)
  const query = `x = data.${(entrypoints[0] ?? '').replaceAll('/', '.')}`
  const dataText = JSON.stringify(test.data ?? {})
  const answer = await compiler.evaluate({
    sources,
    query,
    dataText,
    inputText: json,
    lenient: true,
    builtins: builtins ?? [],
  })
  if (!answer.ok || typeof run === 'string') return false
  const [solution] = answer.result
  return outcome(run) === (solution === undefined ? 'undefined' : sorted(solution['x']))
}

function answers(result: unknown, wanted: readonly Readonly<Record<string, unknown>>[]): unknown {
  const list = Array.isArray(result) ? result : []
  return Object.keys(wanted[0] ?? {}).length > 0 ? list : list.map(() => ({}))
}

/** JSON with sorted keys and elements: sets come in the order of their hashes. */
function sorted(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(sorted).sort().join()}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const members = Object.entries(value).map(([name, member]) => `${JSON.stringify(name)}:${sorted(member)}`)
  return `{${members.sort().join()}}`
}

function refusal(
  result: Built | { readonly ok: false; readonly errors: readonly PolicyError[] },
): readonly string[] {
  return result.ok
    ? ['accepted']
    : result.errors.map((error) => `${error.file}:${error.row} ${error.message}`)
}

function lines(verdicts: readonly Verdict[], kind: Verdict['kind']): string {
  const chosen = verdicts.filter((verdict) => verdict.kind === kind)
  return chosen.map(({ note, text }) => `${note}: ${text}`).join('\n')
}

function report(verdicts: readonly Verdict[]): void {
  const count = (kind: Verdict['kind']) => verdicts.filter((verdict) => verdict.kind === kind).length
  console.log(
    `      ${verdicts.length} cases: ${count('expected')} as OPA expects, ${count('known_difference')} known differences, ` +
      `${count('refused')} refused, ${count('refused_as_expected')} refused as OPA expects, ${count('failed')} failed`,
  )
  for (const { kind, note, text } of verdicts) {
    if (kind === 'refused' || kind === 'known_difference') console.log(`        ${kind}: ${note}: ${text}`)
  }
}
