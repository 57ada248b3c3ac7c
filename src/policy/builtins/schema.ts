/** `json.match_schema` and `json.verify_schema`: OPA v1/topdown/jsonschema.go. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError } from './budget.ts'
import { jsonMembers, parseJson } from './json-text.ts'
import type { BuiltinFamily } from './operands.ts'
import { anyOperand } from './operands.ts'
import { compileSchema } from './schema-compile.ts'
import type { Schema } from './schema-model.ts'
import { SchemaError } from './schema-model.ts'
import type { Finding } from './schema-validate.ts'
import { validate } from './schema-validate.ts'
import type { RegoValue } from './value.ts'
import { isArray, RegoObject, RegoSet } from './value.ts'

/** A document or schema operand: JSON text, an object or an array. */
function documentOperand(
  operands: readonly RegoValue[],
  position: number,
  context: BuiltinContext,
): RegoValue {
  const value = anyOperand(operands, position)
  if (typeof value === 'string') {
    try {
      return parseJson(value)
    } catch (thrown) {
      throw thrown instanceof BuiltinError ? new SchemaError('invalid JSON string') : thrown
    }
  }
  if (!isArray(value) && !(value instanceof RegoObject)) {
    throw new SchemaError('wrong type, expected string or object')
  }
  return toJsonValue(value, context)
}

/** Sets become arrays, keys become strings. */
function toJsonValue(value: RegoValue, context: BuiltinContext): RegoValue {
  const convert = (child: RegoValue): RegoValue => toJsonValue(child, context)
  if (isArray(value)) return value.map(convert)
  if (value instanceof RegoSet) return value.sorted().map(convert)
  if (!(value instanceof RegoObject)) return value
  return new RegoObject(jsonMembers(value, context).map(([key, member]) => [key, convert(member)] as const))
}

function compileOperand(operands: readonly RegoValue[], position: number, context: BuiltinContext): Schema {
  return compileSchema(documentOperand(operands, position, context), context)
}

function toObject({ type, field, description }: Finding): RegoObject {
  return new RegoObject([
    ['desc', description],
    ['error', `${field}: ${description}`],
    ['field', field],
    ['type', type],
  ])
}

/** Runs the work; a complaint about the schema goes to `otherwise`. */
function withSchemaErrors<T>(work: () => T, otherwise: (complaint: SchemaError) => T): T {
  try {
    return work()
  } catch (thrown) {
    if (thrown instanceof SchemaError) return otherwise(thrown)
    throw thrown
  }
}

/** The family, by Rego names. */
export const SCHEMA: BuiltinFamily = {
  'json.match_schema': (operands, context) =>
    withSchemaErrors(
      () => {
        const document = documentOperand(operands, 1, context)
        const findings = validate(compileOperand(operands, 2, context), document, context)
        return [findings.length === 0, findings.map(toObject)]
      },
      ({ message }) => {
        throw new BuiltinError(message)
      },
    ),
  'json.verify_schema': (operands, context) =>
    withSchemaErrors<RegoValue>(
      () => {
        compileOperand(operands, 1, context)
        return [true, null]
      },
      ({ message }) => [false, `jsonschema: ${message}`],
    ),
}
