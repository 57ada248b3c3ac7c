/** What a compiled schema calls while it checks a value, whichever process it runs in. */
import type { ErrorObject } from 'ajv'
import { RE2JS } from 're2js'
import { canonicalJson } from './canonical-json.ts'

/** `pattern` of a schema, ready to be tested. */
export interface CompiledPattern {
  test(value: string): boolean
  toString(): string
}

/** Makes patterns run on RE2, whose time is linear in the value: `^(a+)+$` on JavaScript's engine blocks a thread for minutes. */
export interface PatternEngine {
  /** As ajv takes it; its name in generated code is `regExp`. Throws for what RE2 cannot run. */
  readonly compile: ((pattern: string) => CompiledPattern) & { readonly code: 'regExp' }
  /** Why a pattern was refused; null when none was. */
  refused(): string | null
  /** Sizes of the compiled patterns: of the largest, 1 when there is none, and of all together. */
  programs(): { readonly largest: number; readonly all: number }
}

/** Makes the engine for `pattern`, in which time grows with the text alone. */
export function createPatternEngine(): PatternEngine {
  let refused: string | null = null
  let largest = 1
  let all = 0

  function compile(pattern: string): CompiledPattern {
    try {
      const compiled = RE2JS.compile(RE2JS.translateRegExp(pattern))
      largest = Math.max(largest, compiled.programSize())
      all += compiled.programSize()
      return {
        test: (value) => compiled.test(value),
        // ajv tells patterns apart by this text: with the default one, all patterns of a schema would be the first one.
        toString: () => pattern,
      }
    } catch (thrown) {
      refused = 'it has a pattern that a linear-time engine cannot run'
      throw thrown
    }
  }

  return {
    compile: Object.assign(compile, { code: 'regExp' } as const),
    refused: () => refused,
    programs: () => ({ largest, all }),
  }
}

/** ajv compares every pair of items: 10^10 comparisons for an argument of 256 KiB. This one keeps a set. */
export const isUnique = Object.assign(
  (items: readonly unknown[]): boolean =>
    new Set(items.map((item) => canonicalJson(item))).size === items.length,
  { code: 'isUnique' } as const,
)

/** Said of a value whose check was stopped. */
export const TOO_COMPLEX: readonly string[] = ['too complex to check']

/** Most problems that are named of one value. */
const MAX_PROBLEMS = 3
const MAX_POINTER = 200

/** What is wrong, as JSON pointers and keywords, without values. `names` are the property names the schema speaks of. */
export function problemsOf(errors: readonly ErrorObject[], names: ReadonlySet<string>): readonly string[] {
  const problems = new Set<string>()
  // A failed choice between many leaves an error for each.
  for (const error of errors) {
    problems.add(`${pointerOf(error, names)}: ${error.keyword}`)
    if (problems.size === MAX_PROBLEMS) break
  }
  return [...problems]
}

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
