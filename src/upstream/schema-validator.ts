/**
 * Makes a validator out of a tool's input schema that the upstream wrote and a caller feeds: both are hostile. For a process
 * that nobody else waits for.
 */
import type { CodeKeywordDefinition, Options, ValidateFunction } from 'ajv'
import { _, Ajv } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { useFunc } from 'ajv/dist/compile/util.js'
import standaloneCode from 'ajv/dist/standalone/index.js'
import { canonicalJson } from './canonical-json.ts'
import type { SchemaCode } from './schema-code.ts'
import { reachOf } from './schema-reach.ts'
import type { PatternEngine } from './schema-runtime.ts'
import { createPatternEngine, isUnique, problemsOf, TOO_COMPLEX } from './schema-runtime.ts'
import type { SchemaShape } from './schema-shape.ts'
import { shapeOf } from './schema-shape.ts'
import { TimeLimitError, withTimeLimit } from './time-limit.ts'

/** A schema as far as it can be used. `problem` null = it validates. */
export interface SchemaValidator {
  /** Why arguments cannot be checked against it, for operators; null when they can. */
  readonly problem: string | null
  /** Whether the problem may have been the machine's: it had no time. */
  readonly isPassing: boolean
  /** For a process that others wait for; null when what a check costs there has no bound, or is too much to load. */
  readonly code: SchemaCode | null
  /**
   * What is wrong with the value, as JSON pointers and keywords without values, at most three; empty when it is valid.
   * `textLength` is the length of its JSON text.
   */
  check(value: unknown, textLength: number): readonly string[]
}

/** What one check may take before it is stopped. */
const CHECK_MS = 100
/** After a check was stopped, values at least as large are refused unchecked for this long. */
const PAUSE_MS = 10_000

/** Code that is loaded elsewhere: V8 takes about 4 ms for it, once. */
const MAX_CODE = 98_304
/** Patterns are compiled where the code is loaded. */
const MAX_PROGRAMS = 2000

/** Compiles a schema; of one that cannot be used the validator says why. */
export function createSchemaValidator(schema: unknown, clock: { monotonicMs(): number }): SchemaValidator {
  const text = canonicalJson(schema)
  if (text === null || typeof schema !== 'object' || schema === null) return broken('it is not an object')
  const shape = shapeOf(schema, text)
  if (shape.problem !== null) return broken(shape.problem)
  const patterns = createPatternEngine()
  const compiled = compile(schema, patterns)
  if (typeof compiled === 'string') return broken(compiled)
  const ends = shape.hasReferences ? endsAtAll(compiled.validate) : true
  if (ends !== true) return broken(NEVER_ENDS, ends === 'unclear')
  const code = codeOf(schema, compiled, shape, patterns)
  return { problem: null, isPassing: false, code, check: guarded(compiled.validate, shape, clock) }
}

const NEVER_ENDS = 'applying it does not come to an end'

function broken(problem: string, isPassing = false): SchemaValidator {
  return { problem, isPassing, code: null, check: () => [] }
}

function guarded(
  validate: ValidateFunction,
  shape: SchemaShape,
  clock: { monotonicMs(): number },
): SchemaValidator['check'] {
  let pausedUntil = Number.NEGATIVE_INFINITY
  let pausedFrom = Number.POSITIVE_INFINITY
  return (value, textLength) => {
    const now = clock.monotonicMs()
    if (now < pausedUntil && textLength >= pausedFrom) return TOO_COMPLEX
    try {
      const isValid = withTimeLimit(CHECK_MS, () => validate(value) === true)
      return isValid ? [] : problemsOf(validate.errors ?? [], shape.names)
    } catch (thrown) {
      if (!(thrown instanceof TimeLimitError || thrown instanceof RangeError)) throw thrown
      pausedFrom = now < pausedUntil ? Math.min(pausedFrom, textLength) : textLength
      pausedUntil = clock.monotonicMs() + PAUSE_MS
      return TOO_COMPLEX
    }
  }
}

interface Compiled {
  readonly ajv: Ajv
  readonly validate: ValidateFunction
}

/** The compiled schema, or why there is none. */
function compile(schema: object, patterns: PatternEngine): Compiled | string {
  const dialect = dialectOf(schema)
  if (dialect === null) return 'its $schema is neither 2020-12 nor draft-07'
  try {
    if (dialect.meta().validateSchema(schema) !== true) return 'it is not a valid JSON Schema'
    const ajv = dialect.create({
      ...OPTIONS,
      meta: false,
      validateSchema: false,
      code: codeOptions(patterns),
    })
    replaceUniqueItems(ajv)
    const validate = ajv.compile(schema)
    return '$async' in validate ? 'it uses $async' : { ajv, validate }
  } catch (thrown) {
    if (thrown instanceof RangeError) return 'it is too large to compile'
    return patterns.refused() ?? 'it refers to something outside itself, or cannot be compiled'
  }
}

/** Units of work, about 10 ns, by what is done for each character of a value. */
const LENGTH_WORK = 1
const UNIQUE_WORK = 30
const PATTERN_WORK = 15

function codeOf(
  schema: object,
  { ajv, validate }: Compiled,
  { names }: SchemaShape,
  patterns: PatternEngine,
): SchemaCode | null {
  const reach = reachOf(schema)
  const { largest, all } = patterns.programs()
  if (!Number.isFinite(reach.values) || all > MAX_PROGRAMS) return null
  const code = standaloneCode.default(ajv, validate)
  if (code.length > MAX_CODE) return null
  const perCharacter =
    reach.lengths * LENGTH_WORK + reach.uniques * UNIQUE_WORK + reach.patterns * largest * PATTERN_WORK
  return { code, names: [...names], perValue: reach.values, perCharacter }
}

/**
 * A schema that refers to itself without going deeper never ends: better found now than at the first call. It takes two stops
 * by the clock, and even then it may have been a machine that was busy.
 */
function endsAtAll(validate: ValidateFunction): boolean | 'unclear' {
  for (let stops = 0; stops < 2; stops += 1) {
    try {
      withTimeLimit(CHECK_MS, () => validate({}))
      return true
    } catch (thrown) {
      if (thrown instanceof RangeError) return false
      if (!(thrown instanceof TimeLimitError)) throw thrown
    }
  }
  return 'unclear'
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
  return { optimize: false, source: true, regExp: patterns.compile }
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

function replaceUniqueItems(ajv: Ajv): void {
  ajv.removeKeyword('uniqueItems')
  ajv.addKeyword(UNIQUE_ITEMS)
}

const UNIQUE_ITEMS: CodeKeywordDefinition = {
  keyword: 'uniqueItems',
  type: 'array',
  schemaType: 'boolean',
  error: { message: 'must not have equal items' },
  code(context) {
    if (context.schema === true) context.fail(_`!${useFunc(context.gen, isUnique)}(${context.data})`)
  },
}
