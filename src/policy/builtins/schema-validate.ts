/** Validating a document against a compiled schema, with the findings OPA reports, in its order. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinLimitError, boundElements, spend } from './budget.ts'
import { shortestGeneral } from './float-text.ts'
import { compareNumbers, RegoNumber } from './number.ts'
import { canonicalJson } from './schema-compile.ts'
import { matchesFormat } from './schema-format.ts'
import type { Schema } from './schema-model.ts'
import type { RegoValue } from './value.ts'
import { isArray, RegoObject } from './value.ts'

/** One violation. `field` is a dotted path, `(Root)` for the document itself. */
export interface Finding {
  readonly type: string
  readonly field: string
  readonly description: string
}

const NS_PER_CHECK = 4_000
/** Deepest chain of schemas: references can lead in circles. */
const MAX_DEPTH = 600
const MAX_EXPONENT = 4_096n

/** Findings of one schema on one value. The score tells how near it came, to pick what `anyOf` reports. */
class Result {
  readonly findings: Finding[] = []
  score = 0

  get isValid(): boolean {
    return this.findings.length === 0
  }

  add(type: string, path: readonly string[], description: string): void {
    boundElements(this.findings.length + 1)
    this.findings.push({ type, field: fieldName(path), description })
    this.score -= 2
  }

  merge(other: Result): void {
    boundElements(this.findings.length + other.findings.length)
    this.findings.push(...other.findings)
    this.score += other.score
  }
}

function fieldName(path: readonly string[]): string {
  return path.length === 0 ? '(Root)' : path.join('.')
}

/** All violations of the schema by the document. Charged per schema applied. */
export function validate(schema: Schema, document: RegoValue, context: BuiltinContext): readonly Finding[] {
  return new Validator(context).apply(schema, document, []).findings
}

class Validator {
  readonly #context: BuiltinContext
  #depth = 0

  constructor(context: BuiltinContext) {
    this.#context = context
  }

  apply(schema: Schema, value: RegoValue, path: readonly string[]): Result {
    const result = new Result()
    this.#applyTo(schema, value, path, result)
    return result
  }

  #applyTo(schema: Schema, value: RegoValue, path: readonly string[], result: Result): void {
    spend(this.#context, NS_PER_CHECK)
    this.#depth += 1
    if (this.#depth > MAX_DEPTH) throw new BuiltinLimitError('value_depth', 'schema leads too deep')
    this.#check(schema, value, path, result)
    this.#depth -= 1
  }

  #check(schema: Schema, value: RegoValue, path: readonly string[], result: Result): void {
    if (schema.pass !== undefined) {
      if (!schema.pass) result.add('false', path, 'False always fails validation')
      return
    }
    if (schema.reference !== undefined) {
      this.#applyTo(schema.reference, value, path, result)
      return
    }
    const given = jsonType(value)
    const fits = schema.types.includes(given) || (given === 'integer' && schema.types.includes('number'))
    if (schema.types.length > 0 && !fits) {
      const expected = schema.types.length > 1 ? `[${schema.types.join(',')}]` : schema.types[0]
      result.add('invalid_type', path, `Invalid type. Expected: ${expected}, given: ${given}`)
      return
    }
    this.#combinations(schema, value, path, result)
    if (value instanceof RegoNumber) checkNumber(schema, value, path, result)
    if (isArray(value)) this.#array(schema, value, path, result)
    if (value instanceof RegoObject) this.#object(schema, value, path, result)
    this.#common(schema, value, path, result)
    if (typeof value === 'string') this.#string(schema, value, path, result)
    if (value instanceof RegoObject) this.#properties(schema, value, path, result)
    result.score += 1
  }

  #combinations(schema: Schema, value: RegoValue, path: readonly string[], result: Result): void {
    this.#anyOf(schema, value, path, result)
    this.#oneOf(schema, value, path, result)
    const all = schema.allOf.map((child) => this.apply(child, value, path))
    for (const outcome of all) result.merge(outcome)
    if (all.some((outcome) => !outcome.isValid)) {
      result.add('number_all_of', path, 'Must validate all the schemas (allOf)')
    }
    if (schema.not !== undefined && this.apply(schema.not, value, path).isValid) {
      result.add('number_not', path, 'Must not validate the schema (not)')
    }
    if (value instanceof RegoObject) this.#dependencies(schema, value, path, result)
    if (schema.if !== undefined) this.#condition(schema, schema.if, value, path, result)
    result.score += 1
  }

  #anyOf(schema: Schema, value: RegoValue, path: readonly string[], result: Result): void {
    if (schema.anyOf.length === 0) return
    let best: Result | undefined
    for (const child of schema.anyOf) {
      const outcome = this.apply(child, value, path)
      if (outcome.isValid) return
      if (best === undefined || outcome.score > best.score) best = outcome
    }
    result.add('number_any_of', path, 'Must validate at least one schema (anyOf)')
    if (best !== undefined) result.merge(best)
  }

  #oneOf(schema: Schema, value: RegoValue, path: readonly string[], result: Result): void {
    if (schema.oneOf.length === 0) return
    let valid = 0
    let best: Result | undefined
    for (const child of schema.oneOf) {
      const outcome = this.apply(child, value, path)
      if (outcome.isValid) valid += 1
      else if (valid === 0 && (best === undefined || outcome.score > best.score)) best = outcome
    }
    if (valid === 1) return
    result.add('number_one_of', path, 'Must validate one and only one schema (oneOf)')
    if (valid === 0 && best !== undefined) result.merge(best)
  }

  #dependencies(schema: Schema, value: RegoObject, path: readonly string[], result: Result): void {
    for (const [name, dependency] of schema.dependencies) {
      if (!value.has(name)) continue
      if (!isNameList(dependency)) {
        this.#applyTo(dependency, value, path, result)
        continue
      }
      for (const other of dependency) {
        if (!value.has(other)) result.add('missing_dependency', path, `Has a dependency on ${other}`)
      }
    }
  }

  #condition(schema: Schema, test: Schema, value: RegoValue, path: readonly string[], result: Result): void {
    const branch = this.apply(test, value, path).isValid ? 'then' : 'else'
    const chosen = schema[branch]
    const outcome = chosen === undefined ? undefined : this.apply(chosen, value, path)
    if (outcome === undefined || outcome.isValid) return
    const was = branch === 'then' ? 'was valid' : 'was not valid'
    result.add(`condition_${branch}`, path, `Must validate "${branch}" as "if" ${was}`)
    result.merge(outcome)
  }

  #common(schema: Schema, value: RegoValue, path: readonly string[], result: Result): void {
    const { constant, enumeration, format } = schema
    if (constant !== undefined && canonicalJson(value, this.#context) !== constant) {
      result.add('const', path, `${fieldName(path)} does not match: ${constant}`)
    }
    if (enumeration !== undefined && !enumeration.has(canonicalJson(value, this.#context))) {
      const allowed = [...enumeration].join(', ')
      result.add('enum', path, `${fieldName(path)} must be one of the following: ${allowed}`)
    }
    if (format !== undefined && typeof value === 'string' && !matchesFormat(format, value, this.#context)) {
      result.add('format', path, `Does not match format '${format}'`)
    }
    result.score += 1
  }

  #string(schema: Schema, value: string, path: readonly string[], result: Result): void {
    spend(this.#context, value.length)
    const { minLength, maxLength, pattern } = schema
    const length = minLength === undefined && maxLength === undefined ? 0 : countCodePoints(value)
    if (minLength !== undefined && length < minLength) {
      result.add('string_gte', path, `String length must be greater than or equal to ${minLength}`)
    }
    if (maxLength !== undefined && length > maxLength) {
      result.add('string_lte', path, `String length must be less than or equal to ${maxLength}`)
    }
    if (pattern !== undefined && !pattern.compiled.test(value, this.#context)) {
      result.add('pattern', path, `Does not match pattern '${pattern.text}'`)
    }
    result.score += 1
  }

  #array(schema: Schema, value: readonly RegoValue[], path: readonly string[], result: Result): void {
    this.#items(schema, value, path, result)
    const { minItems, maxItems } = schema
    if (minItems !== undefined && value.length < minItems) {
      result.add('array_min_items', path, `Array must have at least ${minItems} items`)
    }
    if (maxItems !== undefined && value.length > maxItems) {
      result.add('array_max_items', path, `Array must have at most ${maxItems} items`)
    }
    if (schema.uniqueItems === true) this.#unique(value, path, result)
    if (schema.contains !== undefined) this.#contains(schema.contains, value, path, result)
    result.score += 1
  }

  #items(schema: Schema, value: readonly RegoValue[], path: readonly string[], result: Result): void {
    const { items, additionalItems } = schema
    if (items === undefined) return
    const byPosition = isSchemaList(items) ? items : undefined
    for (const [at, element] of value.entries()) {
      const child = isSchemaList(items) ? (items[at] ?? additionalItems) : items
      // Without positions nothing is additional.
      if (typeof child !== 'object' || byPosition?.length === 0) continue
      result.merge(this.apply(child, element, [...path, String(at)]))
    }
    const listed = byPosition?.length ?? 0
    if (listed > 0 && listed < value.length && additionalItems === false) {
      result.add('array_no_additional_items', path, 'No additional items allowed on array')
    }
  }

  #unique(value: readonly RegoValue[], path: readonly string[], result: Result): void {
    const seen = new Map<string, number>()
    for (const [at, element] of value.entries()) {
      const text = canonicalJson(element, this.#context)
      const earlier = seen.get(text)
      if (earlier !== undefined) result.add('unique', path, `array items[${earlier},${at}] must be unique`)
      seen.set(text, at)
    }
  }

  #contains(schema: Schema, value: readonly RegoValue[], path: readonly string[], result: Result): void {
    let best: Result | undefined
    for (const [at, element] of value.entries()) {
      const outcome = this.apply(schema, element, [...path, String(at)])
      if (outcome.isValid) return
      if (best === undefined || outcome.score > best.score) best = outcome
    }
    result.add('contains', path, 'At least one of the items must match')
    if (best !== undefined) result.merge(best)
  }

  #object(schema: Schema, value: RegoObject, path: readonly string[], result: Result): void {
    const { minProperties, maxProperties } = schema
    if (minProperties !== undefined && value.size < minProperties) {
      result.add('array_min_properties', path, `Must have at least ${minProperties} properties`)
    }
    if (maxProperties !== undefined && value.size > maxProperties) {
      result.add('array_max_properties', path, `Must have at most ${maxProperties} properties`)
    }
    for (const name of schema.required) {
      if (value.has(name)) result.score += 1
      else result.add('required', path, `${name} is required`)
    }
    this.#additionalProperties(schema, value, path, result)
    if (schema.propertyNames !== undefined) {
      for (const [name] of value) {
        const outcome = this.apply(schema.propertyNames, name, path)
        if (outcome.isValid) continue
        result.add('invalid_property_name', path, `Property name of "${String(name)}" does not match`)
        result.merge(outcome)
      }
    }
    result.score += 1
  }

  #additionalProperties(schema: Schema, value: RegoObject, path: readonly string[], result: Result): void {
    const declared = new Set<RegoValue>(schema.properties.map(([name]) => name))
    for (const [key, member] of value) {
      const name = String(key)
      const matched = this.#patternProperties(schema, name, member, path, result)
      if (matched || declared.has(name)) continue
      const { additionalProperties } = schema
      if (additionalProperties === false) {
        const description = `Additional property ${name} is not allowed`
        result.add('additional_property_not_allowed', path, description)
      } else if (typeof additionalProperties === 'object') {
        result.merge(this.apply(additionalProperties, member, [...path, name]))
      }
    }
  }

  #patternProperties(
    schema: Schema,
    name: string,
    member: RegoValue,
    path: readonly string[],
    result: Result,
  ): boolean {
    const matching = schema.patternProperties.filter(({ pattern }) => pattern.test(name, this.#context))
    for (const { schema: child } of matching) result.merge(this.apply(child, member, [...path, name]))
    if (matching.length > 0) result.score += 1
    return matching.length > 0
  }

  #properties(schema: Schema, value: RegoObject, path: readonly string[], result: Result): void {
    for (const [name, child] of schema.properties) {
      const member = value.get(name)
      if (member !== undefined) this.#applyTo(child, member, [...path, name], result)
    }
  }
}

function isNameList(dependency: Schema | readonly string[]): dependency is readonly string[] {
  return Array.isArray(dependency)
}

function isSchemaList(items: Schema | readonly Schema[]): items is readonly Schema[] {
  return Array.isArray(items)
}

function jsonType(value: RegoValue): string {
  if (value === null) return 'null'
  if (value instanceof RegoNumber) return isWhole(value) ? 'integer' : 'number'
  if (value instanceof RegoObject) return 'object'
  return isArray(value) ? 'array' : typeof value
}

function isWhole({ parts: { sign, digits, scale } }: RegoNumber): boolean {
  return sign === 0 || scale >= BigInt(digits.length)
}

function countCodePoints(text: string): number {
  let count = 0
  for (const _ of text) count += 1
  return count
}

function checkNumber(schema: Schema, value: RegoNumber, path: readonly string[], result: Result): void {
  const { multipleOf, maximum, exclusiveMaximum, minimum, exclusiveMinimum } = schema
  if (multipleOf !== undefined && !isMultiple(value, multipleOf)) {
    result.add('multiple_of', path, `Must be a multiple of ${numberText(multipleOf)}`)
  }
  if (maximum !== undefined && compareNumbers(value, maximum) > 0) {
    result.add('number_lte', path, `Must be less than or equal to ${numberText(maximum)}`)
  }
  if (exclusiveMaximum !== undefined && compareNumbers(value, exclusiveMaximum) >= 0) {
    result.add('number_lt', path, `Must be less than ${numberText(exclusiveMaximum)}`)
  }
  if (minimum !== undefined && compareNumbers(value, minimum) < 0) {
    result.add('number_gte', path, `Must be greater than or equal to ${numberText(minimum)}`)
  }
  if (exclusiveMinimum !== undefined && compareNumbers(value, exclusiveMinimum) <= 0) {
    result.add('number_gt', path, `Must be greater than ${numberText(exclusiveMinimum)}`)
  }
  result.score += 1
}

/** Exact: both are integers times a power of ten. */
function isMultiple(value: RegoNumber, divisor: RegoNumber): boolean {
  if (value.parts.sign === 0) return true
  const dividend = BigInt(value.parts.digits)
  const unit = BigInt(divisor.parts.digits)
  const shift =
    value.parts.scale -
    BigInt(value.parts.digits.length) -
    (divisor.parts.scale - BigInt(divisor.parts.digits.length))
  if (shift > MAX_EXPONENT || shift < -MAX_EXPONENT) {
    throw new BuiltinLimitError('number_size', 'multipleOf: exponents too far apart')
  }
  return shift >= 0n ? (dividend * 10n ** shift) % unit === 0n : dividend % (unit * 10n ** -shift) === 0n
}

function numberText({ parts: { sign, digits, scale } }: RegoNumber): string {
  return `${sign < 0 ? '-' : ''}${shortestGeneral(digits, Number(scale))}`
}
