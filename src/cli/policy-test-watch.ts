/** `gateway policy test --watch`: runs the tests again whenever a file is saved, until it is stopped. */
import { setTimeout as sleep } from 'node:timers/promises'
import { formatMessages, toMessageDocuments } from '../policy/build-error.ts'
import { lookAtFolder } from '../policy/reload-folder.ts'
import { rememberAnswers } from '../policy/testing/remembered.ts'
import type { TestReport, TestResult } from '../policy/testing/report.ts'
import type { TestFilter } from '../policy/testing/run-tests.ts'
import { testId } from '../policy/testing/run-tests.ts'
import { hasKeys, listenToKeys } from './keyboard.ts'
import type { Output, Streams } from './output.ts'
import type { CompilerPair } from './policy-place.ts'
import type { KeyReader, Wish } from './policy-test-keys.ts'
import { createKeyReader, KEY_LINE } from './policy-test-keys.ts'
import type { ReportLayout } from './policy-test-lines.ts'
import { countOutcomes, layoutFailures } from './policy-test-lines.ts'
import type { TestOutcome } from './policy-test-outcome.ts'
import { whenStopped } from './stop.ts'
import { cutMiddle, escapeText } from './text.ts'

/** What watching needs. */
export interface WatchOptions {
  readonly out: Output
  readonly streams: Streams
  readonly folder: string
  readonly layout: ReportLayout
  /** For the serving module, and at the same time the one with the tests. They are slow at first. */
  readonly compilers: CompilerPair
  readonly nowMs: () => number
  /** Told of every outcome of all tests before it is shown. */
  readonly onOutcome: (outcome: TestOutcome) => Promise<void>
  /** Runs the tests; null = with compilers that are quick the first time. */
  readonly run: (compilers: CompilerPair | null, wanted: WantedTests) => Promise<TestOutcome>
  /** Lines to print behind the results. */
  readonly extra: (report: TestReport) => readonly string[]
  /** The report for programs. */
  readonly toDocument: (report: TestReport) => object
}

/** What a run is to show. */
export interface WantedTests {
  /** Replaces the given one; null = that one. */
  readonly filter: TestFilter | null
  /** Also asked for, besides by an option. */
  readonly coverage: boolean
}

/** How often the folder is looked at, and how long it has to stay as it is before it is read. Milliseconds. */
const POLL_MS = 80
const QUIET_MS = 40
/** Looking takes at most about a tenth of the time. */
const REST_FACTOR = 10
const MAX_ROUNDS = 50
const MAX_FAILURES = 50
/** Room on a screen for what is not a failure: head, foot, keys. */
const FRAME_ROWS = 8
const PROMPT_WIDTH = 99

/** Resolves when the person who watches has had enough: Ctrl-C, `q`, SIGTERM. That is no error. */
export async function watchTests(options: WatchOptions): Promise<void> {
  const stop = whenStopped()
  const quit = new AbortController()
  const signal = AbortSignal.any([stop.signal, quit.signal])
  const keys = createKeyReader()
  const watch = new Watch(options, signal, keys)
  const release = listenToKeys(options.out.isTerminal, (text) => {
    for (const wish of keys.read(text)) {
      if (wish.kind === 'quit') quit.abort()
      else watch.press(wish)
    }
    watch.showPrompt()
  })
  try {
    await watch.run()
  } finally {
    release()
    stop.release()
  }
}

type Look = ReadonlyMap<string, string>

class Watch {
  readonly #options: WatchOptions
  readonly #signal: AbortSignal
  readonly #ended: Promise<null>
  readonly #compilers: CompilerPair
  readonly #keys: KeyReader
  #isFirst = true
  /** What a person has asked for since the last run, in words. */
  #asked: string | null = null
  #onlyFailed = false
  #pattern: RegExp | null = null
  #uncut = false
  #coverage = false
  #failing: ReadonlySet<string> = new Set()
  /** When all tests last held, ms since the epoch. */
  #greenAt: number | null = null

  constructor(options: WatchOptions, signal: AbortSignal, keys: KeyReader) {
    this.#keys = keys
    this.#options = options
    this.#signal = signal
    this.#ended = aborted(signal)
    const [first, second] = options.compilers
    this.#compilers = [rememberAnswers(first), rememberAnswers(second)]
  }

  /** What a person wants to see; everything runs again for it, and what was built is known. */
  press(wish: Wish): void {
    if (wish.kind === 'uncut') this.#uncut = !this.#uncut
    if (wish.kind === 'coverage') this.#coverage = !this.#coverage
    if (wish.kind === 'failed') this.#onlyFailed = !this.#onlyFailed
    if (wish.kind === 'all' || wish.kind === 'pattern') {
      this.#onlyFailed = false
      this.#pattern = wish.kind === 'pattern' ? wish.pattern : null
    }
    this.#asked = this.#wanted()
  }

  #wanted(): string {
    const which = this.#pattern === null ? 'all tests' : `tests that match ${this.#pattern.source}`
    return [
      this.#onlyFailed ? 'only what failed' : which,
      ...(this.#uncut ? ['uncut'] : []),
      ...(this.#coverage ? ['with coverage'] : []),
    ].join(', ')
  }

  /** The pattern that is being typed, in the line of the cursor. */
  showPrompt(): void {
    const prompt = this.#keys.prompt()
    const text = prompt === null ? '' : cutMiddle(escapeText(prompt), PROMPT_WIDTH)
    this.#options.streams.stdout.write(`\r\u001b[K${text}`)
  }

  async run(): Promise<void> {
    const { folder } = this.#options
    let seen: Look = new Map()
    for (let why = 'started'; !this.#signal.aborted; ) {
      const before = seen
      seen = await this.#atRest()
      if (why === '') why = changesText(changedFiles(before, seen))
      if (this.#signal.aborted) return
      if (why !== '') await this.#test(why)
      why = await this.#somethingNew(folder, seen)
    }
  }

  /** Runs once. What is wrong with the policies is shown, and the watch goes on. */
  async #test(why: string): Promise<void> {
    const isNarrow = this.#onlyFailed && this.#failing.size > 0
    const failing = this.#failing
    const outcome = await this.#outcome(isNarrow ? { test: (id) => failing.has(id) } : this.#pattern)
    if (outcome === null) return
    const holds = outcome.kind === 'ran' && countOutcomes(outcome.report.results).failed === 0
    if (isNarrow && !holds) {
      this.#show(outcome, why)
      return
    }
    // What failed holds now: that is worth something only if all others still do.
    this.#onlyFailed = false
    const all = isNarrow ? await this.#outcome(this.#pattern) : outcome
    if (all === null) return
    if (this.#pattern === null) await this.#options.onOutcome(all)
    this.#show(all, why)
  }

  /** null: nobody waits for it any more. */
  async #outcome(filter: TestFilter | null): Promise<TestOutcome | null> {
    const { run } = this.#options
    const wanted = { filter, coverage: this.#coverage }
    const running = run(this.#isFirst ? null : this.#compilers, wanted)
    running.catch(() => undefined) // it is told by the race, unless that is over
    const outcome = await Promise.race([running, this.#ended])
    // While the person reads, the processes that stay get warm; what they make of it is known already.
    if (this.#isFirst && outcome !== null) run(this.#compilers, wanted).catch(() => undefined)
    this.#isFirst = false
    return outcome
  }

  /** Waits for a change of the folder (then ''), a key, or the end. */
  async #somethingNew(folder: string, seen: Look): Promise<string> {
    for (;;) {
      const from = performance.now()
      const now = await look(folder)
      if (changedFiles(seen, now).length > 0) return ''
      const asked = this.#asked
      this.#asked = null
      if (asked !== null) return asked
      await this.#pause(Math.max(POLL_MS, (performance.now() - from) * REST_FACTOR))
      if (this.#signal.aborted) return 'stopped'
    }
  }

  /** The folder once it has stopped to change; after a while as it is. */
  async #atRest(): Promise<Look> {
    let last = await look(this.#options.folder)
    for (let round = 0; round < MAX_ROUNDS && !this.#signal.aborted; round += 1) {
      await this.#pause(QUIET_MS)
      const next = await look(this.#options.folder)
      if (changedFiles(last, next).length === 0) return next
      last = next
    }
    return last
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#signal }).catch(() => undefined)
  }

  #show(outcome: TestOutcome, why: string): void {
    const { out, streams, nowMs } = this.#options
    const now = nowMs()
    const wasGreenAt = this.#greenAt
    const before = this.#failing
    if (outcome.kind === 'ran') this.#remember(outcome.report, now)
    if (out.isJson) {
      out.ndjson({ time: new Date(now).toISOString(), why, ...this.#document(outcome) })
      return
    }
    if (out.isTerminal) streams.stdout.write('\u001b[2J\u001b[3J\u001b[H')
    const head = `${clock(now)}  ${escapeText(why)}`
    const lines =
      outcome.kind === 'refused'
        ? this.#refusalLines(head, outcome)
        : this.#reportLines(head, outcome.report, { before, wasGreenAt })
    for (const line of lines) out.line(line)
    if (!hasKeys(out.isTerminal)) return
    out.line(out.style('dim', KEY_LINE))
    this.showPrompt()
  }

  #remember({ results }: TestReport, now: number): void {
    const failed = results.filter(({ outcome }) => outcome === 'failed').map(testId)
    this.#failing = new Set(failed)
    if (failed.length === 0 && this.#pattern === null) this.#greenAt = now
  }

  #document(outcome: TestOutcome): object {
    if (outcome.kind === 'refused') return { errors: toMessageDocuments(outcome.error.errors) }
    return this.#options.toDocument(outcome.report)
  }

  #refusalLines(head: string, { error }: Extract<TestOutcome, { kind: 'refused' }>): readonly string[] {
    const { out } = this.#options
    const count = `${error.errors.length} error${error.errors.length === 1 ? '' : 's'}`
    const since = this.#greenAt === null ? '' : ` (all tests held at ${clock(this.#greenAt)})`
    return [
      `${head}   ${out.style('bad', `${count}, no test ran`)}${since}`,
      '',
      ...this.#screenful(formatMessages(error.errors, out.style).split('\n')),
    ]
  }

  #reportLines(
    head: string,
    report: TestReport,
    { before, wasGreenAt }: { readonly before: ReadonlySet<string>; readonly wasGreenAt: number | null },
  ): readonly string[] {
    const { out, extra } = this.#options
    const layout = this.#layout()
    const { failed } = countOutcomes(report.results)
    const times = `build ${Math.round(report.buildMs)} ms   run ${Math.round(report.runMs)} ms`
    const since = wasGreenAt === null ? '' : ` (all held at ${clock(wasGreenAt)})`
    const state =
      report.results.length === 0
        ? out.style('warn', 'no test')
        : failed > 0
          ? `${out.style('bad', `${failed} FAILED`)}${since}`
          : out.style('good', 'ok')
    const shown = newFirst(report.results, before).slice(0, MAX_FAILURES)
    const { failures, foot } = layoutFailures(shown, report, layout)
    const more = failed - shown.length
    return [
      `${head}   ${times}   ${state}`,
      ...this.#screenful([
        ...failures.flat(),
        ...(more > 0 ? ['', `  .. ${more} more failed`] : []),
        ...extra(report),
      ]),
      ...(failed > 0 ? foot : foot.map((line) => `  ${line}`)),
    ]
  }

  #layout(): ReportLayout {
    const { layout } = this.#options
    return { ...layout, full: layout.full || this.#uncut }
  }

  /** As many lines as a screen has room for; all of them where there is none. */
  #screenful(lines: readonly string[]): readonly string[] {
    const { out, streams } = this.#options
    const { rows } = streams.stdout as { readonly rows?: number }
    if (!out.isTerminal || this.#layout().full || rows === undefined) return lines
    const room = Math.max(5, rows - FRAME_ROWS)
    if (lines.length <= room) return lines
    const how = hasKeys(out.isTerminal) ? '[e]' : '--full'
    return [...lines.slice(0, room), `  .. ${lines.length - room} more lines: ${how}`]
  }
}

/** What broke just now stands first. */
function newFirst(results: readonly TestResult[], before: ReadonlySet<string>): readonly TestResult[] {
  const failed = results.filter(({ outcome }) => outcome === 'failed')
  const isNew = (result: TestResult) => !before.has(testId(result))
  return [...failed.filter(isNew), ...failed.filter((result) => !isNew(result))]
}

/** Name -> what changes when the file does. */
async function look(folder: string): Promise<Look> {
  const lines = await lookAtFolder(folder)
  return new Map(
    lines.map((line) => {
      const name = /^"(?:[^"\\]|\\.)*"/.exec(line)?.[0]
      return name === undefined ? [line, ''] : [String(JSON.parse(name)).slice(1), line.slice(name.length)]
    }),
  )
}

const WATCHED = /\.(rego|ya?ml|json)$/

/** Files that policies and tests are made of, and the folder itself when it has come or gone. */
function changedFiles(before: Look, after: Look): readonly string[] {
  const names = [...new Set([...before.keys(), ...after.keys()])]
  const isOurs = (name: string) => WATCHED.test(name) || before.get(name) === '' || after.get(name) === ''
  return names.filter((name) => isOurs(name) && before.get(name) !== after.get(name))
}

const MAX_NAMED = 3

function changesText(names: readonly string[]): string {
  if (names.length === 0) return ''
  const shown = names.slice(0, MAX_NAMED).join(', ')
  return `${shown}${names.length > MAX_NAMED ? ` and ${names.length - MAX_NAMED} more` : ''} saved`
}

/** Resolves with null when the signal is given. */
function aborted(signal: AbortSignal): Promise<null> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(null)
    signal.addEventListener('abort', () => resolve(null), { once: true })
  })
}

function clock(ms: number): string {
  return new Date(ms).toTimeString().slice(0, 8)
}
