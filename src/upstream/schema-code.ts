/** A compiled schema that has come from another process as text, and what checking a value against it can cost. */
import type { ErrorObject } from 'ajv'
import equal from 'ajv/dist/runtime/equal.js'
import ucs2length from 'ajv/dist/runtime/ucs2length.js'
import { createPatternEngine, isUnique, problemsOf } from './schema-runtime.ts'

/** Survives the way between processes. */
export interface SchemaCode {
  /** CommonJS module made by ajv; it calls what stands in `schema-runtime.ts`. */
  readonly code: string
  /** Property names that may be shown. */
  readonly names: readonly string[]
  /** Units of work (about 10 ns) for each value that is checked, and for each character of its JSON text. */
  readonly perValue: number
  readonly perCharacter: number
}

/** Checks values where it was loaded. */
export interface LoadedSchema {
  /** null when the check could take too long to be made here. `textLength` is the length of the value's JSON text. */
  check(value: unknown, textLength: number): readonly string[] | null
  readonly size: number
}

/** Work that is done at once: 1 ms. */
const MAX_WORK = 100_000

type Validate = ((value: unknown) => boolean) & { readonly errors?: readonly ErrorObject[] | null }

/** V8 reads over the functions in it and compiles each when it is first called. */
export function loadSchema({ code, names, perValue, perCharacter }: SchemaCode): LoadedSchema {
  const module: { exports: Validate | null } = { exports: null }
  const { compile } = createPatternEngine()
  new Function('module', 'require', compile.code, isUnique.code, code)(module, runtimeOf, compile, isUnique)
  const validate = module.exports as Validate
  const known = new Set(names)

  function isSure(value: unknown, textLength: number): boolean {
    if ((perValue + perCharacter) * textLength <= MAX_WORK) return true
    const left = MAX_WORK - perCharacter * textLength
    return left > 0 && hasAtMost(value, left / perValue)
  }

  return {
    check(value, textLength) {
      if (!isSure(value, textLength)) return null
      return validate(value) ? [] : problemsOf(validate.errors ?? [], known)
    },
    size: code.length,
  }
}

/** What ajv's generated code asks for by name. */
function runtimeOf(name: string): { readonly default: unknown } {
  if (name === 'ajv/dist/runtime/equal') return equal
  if (name === 'ajv/dist/runtime/ucs2length') return ucs2length
  throw new Error(`generated code asks for ${name}`)
}

/** Whether a value has at most so many values in it, itself included. */
export function hasAtMost(value: unknown, most: number): boolean {
  let left = most
  const open: unknown[] = [value]
  while (open.length > 0) {
    left -= 1
    if (left < 0) return false
    const next = open.pop()
    if (typeof next !== 'object' || next === null) continue
    const members = Array.isArray(next) ? next : Object.values(next)
    if (members.length > left) return false
    for (const member of members) open.push(member)
  }
  return true
}
