/** Makes a validator out of a tool's input schema that the upstream wrote and a caller feeds: both are hostile. */
import type { ErrorObject, Options, ValidateFunction } from 'ajv'
import { Ajv } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { RE2JS } from 're2js'
import { canonicalJson } from './canonical-json.ts'
import type { SchemaShape } from './schema-shape.ts'
import { shapeOf } from './schema-shape.ts'
import { TimeLimitError, withTimeLimit } from './time-limit.ts'

/** A schema as far as it can be used. `problem` null = it validates. */
export interface SchemaValidator {
  /** Why arguments cannot be checked against it, for operators; null when they can. */
  readonly problem: string | null
  /**
   * What is wrong with the value, as JSON pointers and keywords without values, at most {@link MAX_PROBLEMS}; empty when it
   * is valid. `textLength` is the length of its JSON text.
   */
  check(value: unknown, textLength: number): readonly string[]
}

export const MAX_PROBLEMS = 3

/** What one check may take before it is stopped. */
const CHECK_MS = 100
/** After a check was stopped, values at least as large are refused unchecked for this long. */
const PAUSE_MS = 10_000
/** Schema size times value size up to which a check cannot take long, whatever the schema says. */
const SURE_WORK = 8_000_000

const TOO_COMPLEX = ['too complex to check']

export function createSchemaValidator(schema: unknown, clock: { monotonicMs(): number }): SchemaValidator {
  const text = canonicalJson(schema)
  if (text === null || typeof schema !== 'object' || schema === null) return broken('it is not an object')
  const shape = shapeOf(schema, text)
  if (shape.problem !== null) return broken(shape.problem)
  const patterns = createPatternEngine()
  const compiled = compile(schema, shape, patterns)
  if (typeof compiled === 'string') return broken(compiled)
  const weight = shape.hasReferences ? Number.POSITIVE_INFINITY : shape.bytes * patterns.largestProgram()
  return guarded(compiled, weight, shape, clock)
}

function broken(problem: string): SchemaValidator {
  return { problem, check: () => [] }
}

function guarded(
  validate: ValidateFunction,
  weight: number,
  shape: SchemaShape,
  clock: { monotonicMs(): number },
): SchemaValidator {
  let pausedUntil = Number.NEGATIVE_INFINITY
  let pausedFrom = Number.POSITIVE_INFINITY

  function run(value: unknown, textLength: number): boolean {
    if (weight * textLength <= SURE_WORK) return validate(value) === true
    return withTimeLimit(CHECK_MS, () => validate(value) === true)
  }

  return {
    problem: null,
    check(value, textLength) {
      const now = clock.monotonicMs()
      if (now < pausedUntil && textLength >= pausedFrom) return TOO_COMPLEX
      try {
        return run(value, textLength) ? [] : problemsOf(validate.errors ?? [], shape.names)
      } catch (thrown) {
        if (!(thrown instanceof TimeLimitError || thrown instanceof RangeError)) throw thrown
        pausedFrom = now < pausedUntil ? Math.min(pausedFrom, textLength) : textLength
        pausedUntil = clock.monotonicMs() + PAUSE_MS
        return TOO_COMPLEX
      }
    },
  }
}

/** The compiled schema, or why there is none. */
function compile(schema: object, shape: SchemaShape, patterns: PatternEngine): ValidateFunction | string {
  const dialect = dialectOf(schema)
  if (dialect === null) return 'its $schema is neither 2020-12 nor draft-07'
  let validate: ValidateFunction
  try {
    if (dialect.meta().validateSchema(schema) !== true) return 'it is not a valid JSON Schema'
    const ajv = dialect.create({
      ...OPTIONS,
      meta: false,
      validateSchema: false,
      code: codeOptions(patterns),
    })
    replaceUniqueItems(ajv)
    validate = ajv.compile(schema)
  } catch (thrown) {
    if (thrown instanceof RangeError) return 'it is too large to compile'
    return patterns.refused() ?? 'it refers to something outside itself, or cannot be compiled'
  }
  if ('$async' in validate) return 'it uses $async'
  return !shape.hasReferences || endsAtAll(validate) ? validate : 'applying it does not come to an end'
}

/**
 * A schema that refers to itself without going deeper never ends: better found now than at the first call. The verdict is
 * for good, so it takes two stops by the clock: one may be a machine that was busy.
 */
function endsAtAll(validate: ValidateFunction): boolean {
  for (let stops = 0; stops < 2; stops += 1) {
    try {
      withTimeLimit(CHECK_MS, () => validate({}))
      return true
    } catch (thrown) {
      if (thrown instanceof RangeError) return false
      if (!(thrown instanceof TimeLimitError)) throw thrown
    }
  }
  return false
}

const OPTIONS: Options = {
  strict: false,
  logger: false,
  /** Formats are annotations in 2020-12, and their patterns run on a backtracking engine. */
  validateFormats: false,
  /** Inlining what is referred to twice, twice, and so on, makes code of exponential size. */
  inlineRefs: false,
  /** `required: ["toString"]` is not met by every object. */
  ownProperties: true,
}

function codeOptions(patterns: PatternEngine): NonNullable<Options['code']> {
  // ajv's optimizer takes most of the time of large schemas and gives little.
  return { optimize: false, regExp: patterns.engine }
}

interface Dialect {
  create(options: Options): Ajv
  /** The shared instance that checks schemas themselves; made at first use, because that costs 30 ms. */
  meta(): Ajv
}

function dialect(create: (options: Options) => Ajv): Dialect {
  let meta: Ajv | null = null
  return {
    create,
    meta: () => {
      if (meta === null) {
        meta = create({ ...OPTIONS, code: codeOptions(createPatternEngine()) })
        replaceUniqueItems(meta)
      }
      return meta
    },
  }
}

const DRAFT_2020_12 = dialect((options) => new Ajv2020(options))
const DRAFT_07 = dialect((options) => new Ajv(options))

function dialectOf(schema: object): Dialect | null {
  const named: unknown = '$schema' in schema ? schema.$schema : undefined
  if (named === undefined) return DRAFT_2020_12
  if (typeof named !== 'string') return null
  const uri = named.replace(/#$/, '').replace(/^http:/, 'https:')
  if (uri === 'https://json-schema.org/draft/2020-12/schema') return DRAFT_2020_12
  return uri === 'https://json-schema.org/draft-07/schema' ? DRAFT_07 : null
}

/** ajv compares every pair of items: 10^10 comparisons for an argument of 256 KiB. This one keeps a set. */
function replaceUniqueItems(ajv: Ajv): void {
  ajv.removeKeyword('uniqueItems')
  ajv.addKeyword({
    keyword: 'uniqueItems',
    type: 'array',
    schemaType: 'boolean',
    errors: false,
    validate: (unique: boolean, items: readonly unknown[]) =>
      !unique || new Set(items.map((item) => canonicalJson(item))).size === items.length,
  })
}

interface PatternEngine {
  readonly engine: NonNullable<NonNullable<Options['code']>['regExp']>
  /** Why a pattern was refused; null when none was. */
  refused(): string | null
  /** Size of the largest compiled pattern; 1 when there is none. */
  largestProgram(): number
}

/** Patterns on RE2, whose time is linear in the value: `^(a+)+$` on JavaScript's engine blocks a process for minutes. */
function createPatternEngine(): PatternEngine {
  let refused: string | null = null
  let largest = 1
  const engine = (pattern: string) => {
    try {
      const compiled = RE2JS.compile(RE2JS.translateRegExp(pattern))
      largest = Math.max(largest, compiled.programSize())
      return {
        test: (value: string) => compiled.test(value),
        // ajv tells patterns apart by this text: with the default one, all patterns of a schema would be the first one.
        toString: () => pattern,
      }
    } catch (thrown) {
      refused = 'it has a pattern that a linear-time engine cannot run'
      throw thrown
    }
  }
  return {
    engine: Object.assign(engine, { code: 'regExp' }),
    refused: () => refused,
    largestProgram: () => largest,
  }
}

function problemsOf(errors: readonly ErrorObject[], names: ReadonlySet<string>): readonly string[] {
  const problems = new Set(errors.map((error) => `${pointerOf(error, names)}: ${error.keyword}`))
  return [...problems].slice(0, MAX_PROBLEMS)
}

const MAX_POINTER = 200

/** Names the schema does not know came from the caller and may be anything: they are shown as `*`. */
function pointerOf(error: ErrorObject, names: ReadonlySet<string>): string {
  const segments = error.instancePath.split('/').slice(1)
  const missing: unknown = error.keyword === 'required' ? error.params['missingProperty'] : undefined
  if (typeof missing === 'string') segments.push(missing.replaceAll('~', '~0').replaceAll('/', '~1'))
  const shown = segments.map((segment) => {
    const name = segment.replaceAll('~1', '/').replaceAll('~0', '~')
    return names.has(name) || /^[0-9]{1,6}$/.test(name) ? segment : '*'
  })
  return `/${shown.join('/')}`.slice(0, MAX_POINTER)
}
