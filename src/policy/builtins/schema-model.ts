/** A JSON Schema once compiled: drafts 4, 6 and 7, and OPA's default mix of the three. */
import type { RegoNumber } from './number.ts'
import type { Pattern } from './pattern.ts'

/** Drafts by number; `hybrid` understands the keywords of all. */
export type Draft = 4 | 6 | 7 | 'hybrid'

/** A compiled schema. Members are absent (undefined) where the schema does not have the keyword. */
export interface Schema {
  /** `true` and `false` as a schema. */
  pass?: boolean
  /** Target of `$ref`; nothing else counts then. */
  reference?: Schema
  readonly types: string[]
  readonly properties: [name: string, schema: Schema][]
  additionalProperties?: boolean | Schema
  readonly patternProperties: { readonly pattern: Pattern; readonly schema: Schema }[]
  propertyNames?: Schema
  readonly dependencies: Map<string, Schema | readonly string[]>
  /** One schema for all items, or one per position. */
  items?: Schema | Schema[]
  additionalItems?: boolean | Schema
  multipleOf?: RegoNumber
  minimum?: RegoNumber
  exclusiveMinimum?: RegoNumber
  maximum?: RegoNumber
  exclusiveMaximum?: RegoNumber
  minLength?: number
  maxLength?: number
  pattern?: { readonly text: string; readonly compiled: Pattern }
  format?: string
  minProperties?: number
  maxProperties?: number
  readonly required: Set<string>
  minItems?: number
  maxItems?: number
  uniqueItems?: boolean
  contains?: Schema
  /** Canonical JSON texts. */
  constant?: string
  enumeration?: ReadonlySet<string>
  readonly oneOf: Schema[]
  readonly anyOf: Schema[]
  readonly allOf: Schema[]
  not?: Schema
  if?: Schema
  then?: Schema
  else?: Schema
}

/** A schema that accepts everything, to be filled by its keywords. */
export function emptySchema(): Schema {
  return {
    types: [],
    properties: [],
    patternProperties: [],
    dependencies: new Map(),
    required: new Set(),
    oneOf: [],
    anyOf: [],
    allOf: [],
  }
}

/** What is wrong with a schema, in OPA's words. */
export class SchemaError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'SchemaError'
  }
}
