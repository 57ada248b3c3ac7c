/**
 * The client of the Rego compiler: OPA's own, as a Wasm program in a child process (see `compiler/`), never in the
 * gateway's. It checks, instruments, compiles, formats and, as an oracle, evaluates.
 */

import { OMITTED_BUILTINS } from './builtins/omitted.ts'
import type { CompilerArtifact } from './compiler-artifact.ts'
import { CompilerFault, createCompilerProcess } from './compiler-process.ts'
import type { Dictionary } from './dictionary.ts'

/** One thing wrong with a policy. */
export interface PolicyError {
  /** Name of the source as it was handed in; empty when the error belongs to none. */
  readonly file: string
  /** 1-based; 0 when the error has no place. */
  readonly row: number
  /** 1-based, counted in code points. */
  readonly col: number
  /** First column behind it, on the same row. */
  readonly endCol?: number
  /** OPA's code (`rego_type_error`, ..) or one of ours (`reserved_name`, `contract_error`, `data_error`, ..). */
  readonly code: string
  readonly message: string
  /** The way out. */
  readonly hint: string | null
  /** The source line. */
  readonly line: string | null
}

/** What authors may define; everything else under `owned` is the product's. */
export interface PolicyContract {
  /** First segment of the packages that are not the author's. */
  readonly owned: string
  /** Packages below `owned` that are; the first one holds the decision's rules. */
  readonly open: readonly string[]
  /** Prefix of the product's own files. */
  readonly exempt: string
  /** Rules that have to be sets (`name contains ..`). */
  readonly sets: readonly string[]
}

/** Rego sources and what they are checked against. */
export interface CheckRequest {
  /** Rego text by file name. */
  readonly sources: Readonly<Record<string, string>>
  /** Base documents: no rule may lie where they have a value. */
  readonly data?: unknown
  /** JSON Schema of `input`; a reference to a field it does not have is an error. */
  readonly inputSchema?: unknown
  /** Builtins the host evaluates besides those native to OPA's Wasm; absent = all of OPA's. */
  readonly builtins?: readonly string[]
  /** Allows unused variables and imports, and deprecated builtins. */
  readonly lenient?: boolean
  readonly contract?: PolicyContract
  /** Such as `gateway/decision`; `check` names the definitions that none of them leads to. */
  readonly entrypoints?: readonly string[]
}

/** Where a definition of a rule stands. */
export interface RulePosition {
  /** Path, such as `data.gateway.authz.deny`. */
  readonly rule: string
  readonly file: string
  /** 1-based. */
  readonly row: number
  /** 1-based, counted in code points. */
  readonly col: number
}

/** What one definition (an else chain is one) reads by itself; what it reads through rules stands with those. */
export interface RuleDependencies extends RulePosition {
  /** References into input, such as `input.principal.roles`, as far as they are constant. */
  readonly input: readonly string[]
  /** References to base documents. */
  readonly data: readonly string[]
  /** Paths of the rules and functions it refers to. */
  readonly rules: readonly string[]
  /** Whether an entrypoint leads to it. */
  readonly reachable: boolean
}

/** What entrypoints and rules read. */
export interface Dependencies {
  readonly ok: true
  /** References into input and base documents that the entrypoints lead to. */
  readonly base: readonly string[]
  /** Paths of the rules that they lead to. */
  readonly virtual: readonly string[]
  /** Every definition, in the order of the sources. */
  readonly rules: readonly RuleDependencies[]
}

/** What to build. */
export interface BuildRequest extends CheckRequest {
  /** Such as `gateway/decision`. */
  readonly entrypoints: readonly string[]
  /** Adds the entrypoint `as`, whose value names the fields of the input that the rules `of` may depend on (see `LIST_READS`). */
  readonly reads?: { readonly of: string; readonly as: string }
  /** Adds the entrypoint `as`, which answers for all targets of a list at once, unless the rules do not allow it (see `LISTED`). */
  readonly list?: { readonly sets: readonly string[]; readonly shared: string; readonly as: string }
  /** Whether the module shall tell what it evaluates. */
  readonly instrument: boolean
}

/** The sources are not acceptable. */
export interface Refused {
  readonly ok: false
  readonly errors: readonly PolicyError[]
}

/** A finished build. */
export interface Built {
  readonly ok: true
  /** The module as OPA made it, not metered. */
  readonly wasm: Buffer
  /** null when not instrumented. */
  readonly dictionary: Dictionary | null
  /** Version of OPA. */
  readonly opa: string
  readonly entrypoints: readonly string[]
}

export type BuildResult = Built | Refused

/** A query for topdown, OPA's own interpreter. Rule indexing and early exit are off. */
export interface EvaluateRequest extends CheckRequest {
  /** Such as `data.gateway.decision = x`. */
  readonly query: string
  /** JSON text, so that numbers keep their digits; absent = no input. */
  readonly inputText?: string
  /** Input as Rego text (it may hold sets); wins over `inputText`. */
  readonly inputTerm?: string
  /** JSON text of the base documents; wins over `data`. */
  readonly dataText?: string
  readonly nowNs?: bigint
  /** Errors of builtins end the evaluation instead of being undefined. */
  readonly strictErrors?: boolean
  readonly trace?: boolean
  /** Asks what became of each definition and expression. */
  readonly locations?: boolean
  /** Instead of that of {@link CompilerOptions}. */
  readonly timeoutMs?: number
}

/** What topdown made of one definition or expression. A place that is not listed was not reached. */
export interface OracleLocation {
  readonly kind: 'rule' | 'expr'
  readonly file: string
  readonly row: number
  readonly col: number
  /** Held at least once; a definition: gave a value. */
  readonly held: boolean
  /** Was tried at least once without holding. */
  readonly failed: boolean
}

/** One event of topdown's trace. */
export interface OracleEvent {
  readonly op: string
  readonly node: 'rule' | 'expr' | 'body'
  /** Path of the rule, for rules. */
  readonly rule?: string
  readonly file: string
  readonly row: number
  readonly col: number
  readonly text: string
}

/** What topdown says. */
export interface Evaluated {
  readonly ok: true
  readonly defined: boolean
  /** One object of variable bindings per solution; sets are arrays. */
  readonly result: readonly Readonly<Record<string, unknown>>[]
  /** The same as Rego text: sets stay sets, numbers keep their digits. */
  readonly texts: readonly Readonly<Record<string, string>>[]
  readonly error: { readonly code: string; readonly message: string } | null
  readonly trace: readonly OracleEvent[]
  /** null unless asked for, and after an error. */
  readonly locations: readonly OracleLocation[] | null
}

/** What a compiler is made of. */
export interface CompilerOptions {
  readonly artifact: CompilerArtifact
  /** A request that takes longer ends the child process. Default 60 s. */
  readonly timeoutMs?: number
  /** Default 64 MiB. */
  readonly maxAnswerBytes?: number
  /** The child process ends after being idle for so long; null (the default) keeps it until `close`. */
  readonly idleMs?: number | null
  /** The process is asked again and again, as while a folder is watched: slower at first, then twice as fast. */
  readonly lasting?: boolean
}

/** The Rego compiler. Requests are answered one after the other; all throw CompilerFault when it fails itself. */
export interface Compiler {
  /** SHA-256 (hex) of the compiler's own module: part of the key of everything built with it. */
  readonly digest: string
  version(): Promise<{ readonly opa: string; readonly go: string }>
  /** Names of the builtins: those a policy may use when the host has `builtins`, and those OPA's Wasm needs no host for. */
  capabilities(
    builtins?: readonly string[],
  ): Promise<{ readonly builtins: readonly string[]; readonly native: readonly string[] }>
  /** Everything `build` checks, without building. */
  check(
    request: CheckRequest,
  ): Promise<{ readonly ok: true; readonly unreachable: readonly RulePosition[] } | Refused>
  build(request: BuildRequest): Promise<BuildResult>
  format(file: string, source: string): Promise<{ readonly ok: true; readonly formatted: string } | Refused>
  /** What entrypoints and definitions read. */
  dependencies(
    request: CheckRequest & { readonly entrypoints: readonly string[] },
  ): Promise<Dependencies | Refused>
  evaluate(request: EvaluateRequest): Promise<Evaluated | Refused>
  close(): Promise<void>
}

const TIMEOUT_MS = 60_000
const MAX_ANSWER_BYTES = 64 * 1024 * 1024

type Answer = Readonly<Record<string, unknown>>

/** Makes a compiler. Its process starts with the first request and does not keep this one alive. */
export function createCompiler(options: CompilerOptions): Compiler {
  const child = createCompilerProcess({
    wasm: options.artifact.wasm,
    runner: options.artifact.runner,
    timeoutMs: options.timeoutMs ?? TIMEOUT_MS,
    maxAnswerBytes: options.maxAnswerBytes ?? MAX_ANSWER_BYTES,
    idleMs: options.idleMs ?? null,
    lasting: options.lasting ?? false,
  })
  let lastId = 0

  /** `raw` members are JSON text already. */
  function ask(
    op: string,
    fields: object,
    raw: Readonly<Record<string, string | undefined>> = {},
    timeoutMs?: number,
  ): Promise<Answer> {
    lastId += 1
    let line = JSON.stringify({ id: lastId, op, ...fields }).slice(0, -1)
    for (const [name, text] of Object.entries(raw)) {
      if (text !== undefined) line += `,${JSON.stringify(name)}:${oneLine(text)}`
    }
    return child.request(lastId, `${line}}`, timeoutMs)
  }

  return {
    digest: options.artifact.digest,
    close: () => child.close(),
    async version() {
      const answer = await ask('version', {})
      return { opa: text(answer, 'opa'), go: text(answer, 'go') }
    },
    async capabilities(builtins) {
      const answer = await ask('capabilities', { builtins })
      return { builtins: texts(answer, 'builtins'), native: texts(answer, 'native') }
    },
    async check(request) {
      const answer = await ask('check', request)
      return refusal(answer) ?? { ok: true, unreachable: list<RulePosition>(answer, 'unreachable') }
    },
    async build(request) {
      const answer = await ask('build', request)
      return refusal(answer) ?? toBuilt(answer)
    },
    async format(file, source) {
      const answer = await ask('format', { file, source })
      return refusal(answer) ?? { ok: true, formatted: text(answer, 'formatted') }
    },
    async dependencies(request) {
      const answer = await ask('deps', request)
      return refusal(answer) ?? toDependencies(answer)
    },
    async evaluate({ inputText, dataText, data, nowNs, timeoutMs, ...request }) {
      const fields = {
        ...request,
        ...(dataText === undefined && { data }),
        ...(nowNs !== undefined && { nowNs: String(nowNs) }),
      }
      const answer = await ask('eval', fields, { input: inputText, data: dataText }, timeoutMs)
      return refusal(answer) ?? toEvaluated(answer)
    },
  }
}

/** Checks that the text is one JSON value, so that it cannot add fields, and puts it on one line. */
function oneLine(json: string): string {
  JSON.parse(json)
  return json.replace(/[\r\n]/g, ' ') // line ends stand between tokens only
}

function refusal(answer: Answer): Refused | null {
  if (answer['ok'] === true) return null
  if (!Array.isArray(answer['errors'])) throw malformed('errors')
  return { ok: false, errors: (answer['errors'] as PolicyError[]).map(withReason) }
}

const UNDEFINED_FUNCTION = /^undefined function (\S+)$/

/** The compiler does not know why this host lacks a builtin, nor what to do instead. */
function withReason(error: PolicyError): PolicyError {
  const omitted = OMITTED_BUILTINS.get(UNDEFINED_FUNCTION.exec(error.message)?.[1] ?? '')
  return omitted === undefined ? error : { ...error, hint: `${omitted.reason}; ${omitted.alternative}` }
}

function toDependencies(answer: Answer): Dependencies {
  return {
    ok: true,
    base: texts(answer, 'base'),
    virtual: texts(answer, 'virtual'),
    rules: list<RuleDependencies>(answer, 'rules'),
  }
}

function toBuilt(answer: Answer): Built {
  const dictionary = answer['dictionary'] as Dictionary | null
  if (dictionary !== null && dictionary?.v !== 1) throw malformed('dictionary')
  return {
    ok: true,
    wasm: Buffer.from(text(answer, 'wasm'), 'base64'),
    dictionary,
    opa: text(answer, 'opa'),
    entrypoints: texts(answer, 'entrypoints'),
  }
}

function toEvaluated(answer: Answer): Evaluated {
  const { defined, result, texts, error, trace, locations } = answer as unknown as Evaluated
  if (typeof defined !== 'boolean' || !Array.isArray(result)) throw malformed('result')
  return {
    ok: true,
    defined,
    result,
    texts,
    error: error ?? null,
    trace: trace ?? [],
    locations: locations ?? null,
  }
}

function text(answer: Answer, name: string): string {
  const value = answer[name]
  if (typeof value !== 'string') throw malformed(name)
  return value
}

function texts(answer: Answer, name: string): readonly string[] {
  const value = answer[name]
  if (!Array.isArray(value) || value.some((item) => typeof item !== 'string')) throw malformed(name)
  return value
}

function list<T>(answer: Answer, name: string): readonly T[] {
  const value = answer[name]
  if (!Array.isArray(value)) throw malformed(name)
  return value as T[]
}

function malformed(name: string): CompilerFault {
  return new CompilerFault('answer', `the Rego compiler's answer has no ${name}`)
}
