/** `graphql.*`: OPA v1/topdown/graphql.go. Errors of documents are results or undefined, as there; schemas are kept. */
import type { BuiltinContext } from '../budget.ts'
import { BuiltinError } from '../budget.ts'
import type { BuiltinFamily } from '../operands.ts'
import { stringOperand } from '../operands.ts'
import type { RegoValue } from '../value.ts'
import { RegoObject } from '../value.ts'
import type { QueryDocument, SchemaDocument } from './document.ts'
import { toQueryDocument, toRegoValue, toSchemaDocument } from './document-value.ts'
import { parseQuery } from './parse-query.ts'
import { parseSchema } from './parse-schema.ts'
import { createRules, refuseFragmentCycles } from './rules.ts'
import type { Schema } from './schema.ts'
import { toSchema } from './schema.ts'
import { Walker } from './walk.ts'

/** A text, or a document as the builtins give it. */
function queryDocument(operand: RegoValue | undefined, context: BuiltinContext): QueryDocument {
  if (typeof operand === 'string') return parseQuery(operand, context)
  if (operand instanceof RegoObject) return toQueryDocument(operand, context)
  throw new BuiltinError('operand 1 must be one of {string, object}')
}

function schemaDocument(operand: RegoValue | undefined, context: BuiltinContext): SchemaDocument {
  if (typeof operand === 'string') return parseSchema(operand, context)
  if (operand instanceof RegoObject) return toSchemaDocument(operand, context)
  throw new BuiltinError('operand must be one of {string, object}')
}

/** Most schemas that are kept, and the longest text of one. OPA keeps ten. */
const MAX_KEPT = 10
const MAX_KEPT_CHARS = 262_144

/** Valid schemas by their text, the one used last at the end; `units` is what making it was charged. */
const kept = new Map<string, { readonly schema: Schema; readonly units: number }>()

/** A schema that is kept is charged like one that is made: what an evaluation costs tells nothing of the ones before it. */
function schemaOf(operand: RegoValue | undefined, context: BuiltinContext): Schema {
  if (typeof operand !== 'string' || operand.length > MAX_KEPT_CHARS) {
    return toSchema(schemaDocument(operand, context), context)
  }
  const known = kept.get(operand)
  if (known !== undefined) {
    context.charge(known.units)
    kept.delete(operand)
    kept.set(operand, known)
    return known.schema
  }
  let units = 0
  const charge = (more: number): void => {
    units += more
    context.charge(more)
  }
  const counted = { nowNs: context.nowNs, cache: context.cache, charge }
  const schema = toSchema(parseSchema(operand, counted), counted)
  const [oldest] = kept.keys()
  if (kept.size >= MAX_KEPT && oldest !== undefined) kept.delete(oldest)
  kept.set(operand, { schema, units })
  return schema
}

/** @throws {BuiltinError} when the query breaks a rule */
function validate(query: QueryDocument, schema: Schema, context: BuiltinContext): void {
  refuseFragmentCycles(query, context)
  new Walker(schema, query, createRules, context).walk()
}

/** The values of both documents, of a query that is valid. */
function parseBoth(
  [query, schema]: readonly RegoValue[],
  context: BuiltinContext,
): readonly [RegoObject, RegoObject] {
  const document = queryDocument(query, context)
  const queryValue = toRegoValue(document, context)
  validate(document, schemaOf(schema, context), context)
  return [queryValue, toRegoValue(schemaDocument(schema, context), context)]
}

/** What the work gives, or `otherwise` where OPA would have an error of a document. */
function orElse<T>(work: () => T, otherwise: T): T {
  try {
    return work()
  } catch (thrown) {
    if (thrown instanceof BuiltinError) return otherwise
    throw thrown
  }
}

/** The family, by Rego names. */
export const GRAPHQL: BuiltinFamily = {
  'graphql.is_valid': ([query, schema], context) =>
    orElse(() => {
      validate(queryDocument(query, context), schemaOf(schema, context), context)
      return true
    }, false),
  'graphql.parse': parseBoth,
  'graphql.parse_and_verify': (operands, context) =>
    orElse<RegoValue>(
      () => [true, ...parseBoth(operands, context)],
      [false, new RegoObject(), new RegoObject()],
    ),
  'graphql.parse_query': (operands, context) =>
    toRegoValue(parseQuery(stringOperand(operands, 1), context), context),
  'graphql.parse_schema': (operands, context) =>
    toRegoValue(parseSchema(stringOperand(operands, 1), context), context),
  'graphql.schema_is_valid': ([schema], context) =>
    orElse(() => {
      schemaOf(schema, context)
      return true
    }, false),
}
