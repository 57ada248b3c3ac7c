/**
 * The builtins this host evaluates for the Wasm module, by OPA's names and with OPA's results. Everything here is a
 * pure function of its operands and the frozen clock.
 */
import { ARITHMETIC } from './arithmetic.ts'
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, spend } from './budget.ts'
import { CASTS } from './casts.ts'
import { COLLECTIONS } from './collections.ts'
import { CRYPTO } from './crypto.ts'
import { ENCODING } from './encoding.ts'
import { GLOB } from './glob.ts'
import { GRAPHQL } from './graphql/graphql.ts'
import { JSON_MARSHAL } from './json.ts'
import { JSON_PATHS } from './json-paths.ts'
import { JWT } from './jwt.ts'
import { JWT_SIGN } from './jwt-sign.ts'
import { NET } from './net.ts'
import type { Builtin, BuiltinFamily } from './operands.ts'
import { ORDER } from './order.ts'
import { PATCH } from './patch.ts'
import { REGEX } from './regex.ts'
import { SCHEMA } from './schema.ts'
import { SEMVER } from './semver.ts'
import { SPRINTF } from './sprintf.ts'
import { STRINGS } from './strings.ts'
import { TIME } from './time.ts'
import { UNITS } from './units.ts'
import { UUID } from './uuid.ts'
import { formatRegoValue, parseRegoValue } from './value-text.ts'
import { YAML } from './yaml.ts'

const FAMILIES: readonly BuiltinFamily[] = [
  ARITHMETIC,
  CASTS,
  COLLECTIONS,
  CRYPTO,
  ENCODING,
  GLOB,
  GRAPHQL,
  JSON_MARSHAL,
  JSON_PATHS,
  JWT,
  JWT_SIGN,
  NET,
  PATCH,
  REGEX,
  SCHEMA,
  SEMVER,
  SPRINTF,
  STRINGS,
  TIME,
  UNITS,
  UUID,
  YAML,
]

const PUBLIC = FAMILIES.flatMap((family) => Object.entries(family))
const TABLE: ReadonlyMap<string, Builtin> = new Map([...PUBLIC, ...Object.entries(ORDER)])

/** Names of the builtins that only the compiler writes into a module (`order.ts`). */
export const COMPILER_BUILTINS: ReadonlySet<string> = new Set(Object.keys(ORDER))

/**
 * Names of the builtins this host evaluates. Some are native to OPA's Wasm, too, and differ there from topdown: the
 * compiler makes every use of a name in this list a call to the host.
 */
export const HOST_BUILTINS: ReadonlySet<string> = new Set(PUBLIC.map(([name]) => name))

/** Cost of any call: crossing the border, table look-up. */
const NS_PER_CALL = 1_000
/** Cost of reading one character of the text of a collection, with the objects made of it. */
const NS_PER_TEXT_CHAR = 80
/** Cost of reading or writing one character of a string. */
const NS_PER_STRING_CHAR = 10
/** Cost of writing one part of a value: a scalar, a bracket, a comma. */
const NS_PER_PART = 120

/**
 * Evaluates one call. Operands and result are texts of Rego values, as `opa_value_dump` writes and `opa_value_parse`
 * reads them; undefined is Rego undefined, also for operand errors, since Wasm has no strict mode.
 *
 * @throws {BuiltinLimitError} and whatever `context.charge` throws: the evaluation must end and deny
 */
export function callBuiltin(
  name: string,
  args: readonly string[],
  context: BuiltinContext,
): string | undefined {
  const builtin = TABLE.get(name)
  if (builtin === undefined) throw new Error(`host builtin not available: ${name}`)
  spend(context, NS_PER_CALL + args.reduce((sum, text) => sum + readingCost(text), 0))
  try {
    const result = builtin(
      args.map((text) => parseRegoValue(text)),
      context,
    )
    if (result === undefined) return undefined
    return formatRegoValue(result, (chars) => spend(context, NS_PER_PART + NS_PER_STRING_CHAR * chars))
  } catch (thrown) {
    if (thrown instanceof BuiltinError) return undefined
    throw thrown
  }
}

function readingCost(text: string): number {
  return text.length * (text.startsWith('"') ? NS_PER_STRING_CHAR : NS_PER_TEXT_CHAR)
}
