/** Compiling a JSON Schema, with the checks and error texts of the library OPA uses. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, BuiltinLimitError, MAX_VALUE_DEPTH, spend } from './budget.ts'
import { toJsonText } from './json-text.ts'
import { isIntegerLiteral, RegoNumber, toInt64 } from './number.ts'
import type { Pattern } from './pattern.ts'
import { compilePattern } from './pattern.ts'
import type { Draft, Schema } from './schema-model.ts'
import { emptySchema, SchemaError } from './schema-model.ts'
import { detectDraft, SchemaReferences } from './schema-references.ts'
import type { RegoValue } from './value.ts'
import { isArray, RegoObject } from './value.ts'

const NS_PER_SCHEMA = 5_000
const TYPES = ['array', 'boolean', 'integer', 'number', 'null', 'object', 'string']

/** JSON text in which equal numbers look the same, since they pass through doubles; what `enum` and `const` compare. */
export function canonicalJson(value: RegoValue, context: BuiltinContext): string {
  return toJsonText(withDoubles(value), null, context)
}

function withDoubles(value: RegoValue): RegoValue {
  if (value instanceof RegoNumber) return new RegoNumber(String(Number(value.text)))
  if (isArray(value)) return value.map(withDoubles)
  if (!(value instanceof RegoObject)) return value
  return new RegoObject(value.sorted().map(([key, member]) => [key, withDoubles(member)] as const))
}

function invalidType(expected: string, given: string): SchemaError {
  return new SchemaError(`Invalid type. Expected: ${expected}, given: ${given}`)
}

/** Compiles a schema document. Charged per schema in it. */
export function compileSchema(document: RegoValue, context: BuiltinContext): Schema {
  const draft = detectDraft(document)
  const references = new SchemaReferences(document, draft)
  return new SchemaCompiler(references, context).compile(document, draft ?? 'hybrid', 0)
}

class SchemaCompiler {
  readonly #references: SchemaReferences
  readonly #context: BuiltinContext
  /** Targets of references, so that a schema may refer to itself. */
  readonly #referenced = new Map<string, Schema>()

  constructor(references: SchemaReferences, context: BuiltinContext) {
    this.#references = references
    this.#context = context
  }

  compile(document: RegoValue, draft: Draft, depth: number, schema: Schema = emptySchema()): Schema {
    spend(this.#context, NS_PER_SCHEMA)
    if (depth > MAX_VALUE_DEPTH) throw new BuiltinLimitError('value_depth', 'schema nested too deeply')
    if (typeof document === 'boolean' && draft !== 4) {
      schema.pass = document
      return schema
    }
    if (!(document instanceof RegoObject)) {
      throw new SchemaError('Expected: Valid Schema, given: Invalid JSON')
    }
    new KeywordCompiler(document, draft, schema, {
      compile: (child) => this.compile(child, draft, depth + 1),
      reference: (source) => this.#reference(source, draft, depth),
      pattern: (text) => compilePattern(text, this.#context),
      canonical: (value) => canonicalJson(value, this.#context),
    }).run()
    return schema
  }

  #reference(source: RegoObject, draft: Draft, depth: number): Schema {
    const target = this.#references.targetOf(source)
    const known = this.#referenced.get(target)
    if (known !== undefined) return known
    const schema = emptySchema()
    this.#referenced.set(target, schema)
    const found = this.#references.resolve(target)
    if (typeof found.document !== 'boolean' && !(found.document instanceof RegoObject)) {
      throw new SchemaError('Valid Schema must be of type object')
    }
    return this.compile(found.document, found.draft ?? draft, depth + 1, schema)
  }
}

/** What a schema needs from its surroundings. */
interface Surroundings {
  compile(child: RegoValue): Schema
  reference(source: RegoObject): Schema
  pattern(text: string): Pattern
  canonical(value: RegoValue): string
}

/** Reads the keywords of one schema object, in the order in which OPA complains about them. */
class KeywordCompiler {
  readonly #source: RegoObject
  readonly #draft: Draft
  readonly #schema: Schema
  readonly #around: Surroundings

  constructor(source: RegoObject, draft: Draft, schema: Schema, around: Surroundings) {
    this.#source = source
    this.#draft = draft
    this.#schema = schema
    this.#around = around
  }

  run(): void {
    this.#text(this.#draft === 4 || (this.#draft === 'hybrid' && this.#source.has('id')) ? 'id' : '$id')
    this.#definitions()
    this.#text('title')
    this.#text('description')
    if (this.#text('$ref') !== undefined) {
      this.#schema.reference = this.#around.reference(this.#source)
      return
    }
    this.#types()
    this.#objectKeywords()
    this.#items()
    this.#additional('additionalItems')
    this.#numberKeywords()
    this.#stringKeywords()
    this.#sizeKeywords()
    this.#valueKeywords()
    this.#combinations()
    this.#conditions()
  }

  #text(keyword: string): string | undefined {
    const value = this.#source.get(keyword)
    if (value !== undefined && typeof value !== 'string') throw invalidType('string', keyword)
    return value
  }

  #list(keyword: string): readonly RegoValue[] | undefined {
    const value = this.#source.get(keyword)
    if (value !== undefined && !isArray(value)) throw new SchemaError(`${keyword} must be of an array`)
    return value
  }

  #definitions(): void {
    const value = this.#source.get('definitions')
    if (value === undefined) return
    if (!(value instanceof RegoObject)) throw invalidType('Array Of Schemas', 'definitions')
    for (const [, definition] of value) {
      if (!isSchema(definition)) throw invalidType('Array Of Schemas', 'definitions')
      this.#around.compile(definition)
    }
  }

  #types(): void {
    const value = this.#source.get('type')
    if (value === undefined) return
    for (const type of isArray(value) ? value : [value]) {
      if (typeof type !== 'string')
        throw invalidType(isArray(value) ? 'type' : 'type', 'string/Array Of Strings')
      if (!TYPES.includes(type)) {
        const expected = `[${TYPES.join(' ')}]`
        throw new SchemaError(
          `has a primitive type that is NOT VALID -- given: /${type}/ Expected valid values are:${expected}`,
        )
      }
      if (this.#schema.types.includes(type)) throw new SchemaError(`${type} type is duplicated`)
      this.#schema.types.push(type)
    }
  }

  #objectKeywords(): void {
    this.#properties()
    this.#additional('additionalProperties')
    this.#patternProperties()
    const names = this.#source.get('propertyNames')
    if (names !== undefined && this.#draft !== 4) {
      if (!isSchema(names)) throw invalidType('Valid Schema', 'patternProperties')
      this.#schema.propertyNames = this.#around.compile(names)
    }
    this.#dependencies()
  }

  #properties(): void {
    const value = this.#source.get('properties')
    if (value === undefined) return
    if (!(value instanceof RegoObject)) throw new SchemaError('Properties must be of type object')
    for (const [name, property] of value) {
      this.#schema.properties.push([String(name), this.#around.compile(property)])
    }
  }

  #additional(keyword: 'additionalProperties' | 'additionalItems'): void {
    const value = this.#source.get(keyword)
    if (value === undefined) return
    if (typeof value === 'boolean') this.#schema[keyword] = value
    else if (value instanceof RegoObject) this.#schema[keyword] = this.#around.compile(value)
    else throw invalidType('boolean/Valid Schema', keyword)
  }

  #patternProperties(): void {
    const value = this.#source.get('patternProperties')
    if (value === undefined) return
    if (!(value instanceof RegoObject)) throw invalidType('Valid Schema', 'patternProperties')
    for (const [text, property] of value) {
      const pattern = this.#compilePattern(String(text), `Invalid regex pattern '${String(text)}'`)
      this.#schema.patternProperties.push({ pattern, schema: this.#around.compile(property) })
    }
  }

  #compilePattern(text: string, complaint: string): Pattern {
    try {
      return this.#around.pattern(text)
    } catch (thrown) {
      if (thrown instanceof BuiltinError) throw new SchemaError(complaint)
      throw thrown
    }
  }

  #dependencies(): void {
    const value = this.#source.get('dependencies')
    if (value === undefined) return
    if (!(value instanceof RegoObject)) throw new SchemaError('dependencies must be of type object')
    for (const [name, dependency] of value) {
      if (isSchema(dependency)) {
        this.#schema.dependencies.set(String(name), this.#around.compile(dependency))
      } else if (isArray(dependency) && dependency.every((other) => typeof other === 'string')) {
        this.#schema.dependencies.set(String(name), dependency)
      } else {
        throw new SchemaError('Dependency must be of type Schema Or Array Of Strings')
      }
    }
  }

  #items(): void {
    const value = this.#source.get('items')
    if (value === undefined) return
    if (isSchema(value)) {
      this.#schema.items = this.#around.compile(value)
      return
    }
    if (!isArray(value) || !value.every(isSchema)) throw invalidType('Valid Schema/Array Of Schemas', 'items')
    this.#schema.items = value.map((item) => this.#around.compile(item))
  }

  #numberKeywords(): void {
    const multiple = this.#source.get('multipleOf')
    if (multiple !== undefined) {
      if (!(multiple instanceof RegoNumber)) throw invalidType('Number', 'multipleOf')
      if (multiple.parts.sign <= 0) throw new SchemaError('multipleOf must be strictly greater than 0')
      this.#schema.multipleOf = multiple
    }
    this.#bound('minimum', 'exclusiveMinimum')
    this.#bound('maximum', 'exclusiveMaximum')
  }

  /** In draft 4 the exclusive keyword is a boolean beside the bound, later it is a bound of its own. */
  #bound(inclusive: 'minimum' | 'maximum', exclusive: 'exclusiveMinimum' | 'exclusiveMaximum'): void {
    const bound = this.#source.get(inclusive)
    if (bound !== undefined) {
      if (!(bound instanceof RegoNumber)) throw new SchemaError(`${inclusive} must be of a Number`)
      this.#schema[inclusive] = bound
    }
    const value = this.#source.get(exclusive)
    if (value === undefined) return
    if (value instanceof RegoNumber && this.#draft !== 4) {
      this.#schema[exclusive] = value
      return
    }
    if (typeof value !== 'boolean' || this.#draft === 6 || this.#draft === 7) {
      throw invalidType(this.#exclusiveTypes(), exclusive)
    }
    if (!(bound instanceof RegoNumber))
      throw new SchemaError(`${exclusive} cannot be used without ${inclusive}`)
    if (value) {
      this.#schema[exclusive] = bound
      delete this.#schema[inclusive]
    }
  }

  #exclusiveTypes(): string {
    if (this.#draft === 'hybrid') return 'boolean/number'
    return this.#draft === 4 ? 'boolean' : 'number'
  }

  #size(
    keyword: 'minLength' | 'maxLength' | 'minProperties' | 'maxProperties' | 'minItems' | 'maxItems',
  ): void {
    const value = this.#source.get(keyword)
    if (value === undefined) return
    const size = value instanceof RegoNumber && isIntegerLiteral(value.text) ? toInt64(value) : undefined
    if (size === undefined) throw new SchemaError(`${keyword} must be of an integer`)
    if (size < 0n) throw new SchemaError(`${keyword} must be greater than or equal to 0`)
    this.#schema[keyword] = Number(size)
  }

  #stringKeywords(): void {
    this.#size('minLength')
    this.#size('maxLength')
    const { minLength = 0, maxLength = minLength } = this.#schema
    if (minLength > maxLength) throw new SchemaError('minLength cannot be greater than maxLength')
    const pattern = this.#text('pattern')
    if (pattern !== undefined) {
      const compiled = this.#compilePattern(pattern, 'pattern must be a valid regex')
      this.#schema.pattern = { text: pattern, compiled }
    }
    const format = this.#text('format')
    if (format !== undefined) this.#schema.format = format
  }

  #sizeKeywords(): void {
    this.#size('minProperties')
    this.#size('maxProperties')
    const { minProperties = 0, maxProperties = minProperties } = this.#schema
    if (minProperties > maxProperties) {
      throw new SchemaError('minProperties cannot be greater than maxProperties')
    }
    for (const name of this.#list('required') ?? []) {
      if (typeof name !== 'string') throw invalidType('string', 'required')
      if (this.#schema.required.has(name)) throw new SchemaError('required items must be unique')
      this.#schema.required.add(name)
    }
    this.#size('minItems')
    this.#size('maxItems')
    const unique = this.#source.get('uniqueItems')
    if (unique === undefined) return
    if (typeof unique !== 'boolean') throw new SchemaError('uniqueItems must be of a boolean')
    this.#schema.uniqueItems = unique
  }

  #valueKeywords(): void {
    const contains = this.#source.get('contains')
    if (contains !== undefined && this.#draft !== 4) this.#schema.contains = this.#around.compile(contains)
    const constant = this.#source.get('const')
    if (constant !== undefined && this.#draft !== 4) this.#schema.constant = this.#around.canonical(constant)
    const values = this.#list('enum')?.map((value) => this.#around.canonical(value))
    if (values === undefined) return
    const distinct = new Set(values)
    if (distinct.size < values.length) throw new SchemaError('enum items must be unique')
    this.#schema.enumeration = distinct
  }

  #combinations(): void {
    for (const keyword of ['oneOf', 'anyOf', 'allOf'] as const) {
      for (const child of this.#list(keyword) ?? []) this.#schema[keyword].push(this.#around.compile(child))
    }
    const negated = this.#source.get('not')
    if (negated === undefined) return
    if (!isSchema(negated)) throw new SchemaError('not must be of an object')
    this.#schema.not = this.#around.compile(negated)
  }

  #conditions(): void {
    if (this.#draft === 4 || this.#draft === 6) return
    for (const keyword of ['if', 'then', 'else'] as const) {
      const value = this.#source.get(keyword)
      if (value === undefined) continue
      if (!isSchema(value)) throw new SchemaError(`${keyword} must be of an object`)
      this.#schema[keyword] = this.#around.compile(value)
    }
  }
}

function isSchema(value: RegoValue): boolean {
  return typeof value === 'boolean' || value instanceof RegoObject
}
