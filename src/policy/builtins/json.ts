/** `json.marshal`, `json.unmarshal`, `json.is_valid`, `json.marshal_with_options`: OPA v1/topdown/encoding.go. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, spend } from './budget.ts'
import type { JsonLayout } from './json-text.ts'
import { isJson, parseJson, toJsonText } from './json-text.ts'
import type { RegoNumber } from './number.ts'
import type { BuiltinFamily } from './operands.ts'
import { anyOperand, objectOperand, stringOperand } from './operands.ts'
import type { RegoObject, RegoValue } from './value.ts'

const OPTION_TYPES: Readonly<Record<string, string>> = {
  pretty: 'boolean',
  prefix: 'string',
  indent: 'string',
}

/** The layout that the options ask for; null when the text shall be compact. */
function readLayout(options: RegoObject): JsonLayout | null {
  for (const [key, value] of options) {
    if (typeof key !== 'string' || OPTION_TYPES[key] !== typeof value) {
      throw new BuiltinError('unknown or mistyped option')
    }
  }
  const prefix = options.get('prefix')
  const indent = options.get('indent')
  const pretty = options.get('pretty') ?? (prefix !== undefined || indent !== undefined)
  if (pretty === false) return null
  return {
    prefix: typeof prefix === 'string' ? prefix : '',
    indent: typeof indent === 'string' ? indent : '\t',
  }
}

const NS_PER_CHAR = 20
/** OPA's bound of a number's binary exponent. */
const MAX_EXPONENT = 100_000

function unmarshal(operands: readonly RegoValue[], context: BuiltinContext): RegoValue {
  const text = stringOperand(operands, 1)
  spend(context, text.length * NS_PER_CHAR * 8)
  return parseJson(text, checkExponent)
}

/** OPA refuses JSON with a number that would take long to write out. */
function checkExponent(number: RegoNumber): void {
  const { digits, scale } = number.parts
  if (digits === '' || !/e/i.test(number.text)) return
  const exponent = Math.floor(
    Number(scale) * Math.LOG2E * Math.LN10 + Math.log2(Number(`0.${digits.slice(0, 17)}`)),
  )
  if (Math.abs(exponent + 1) > MAX_EXPONENT) throw new BuiltinError('number too big')
}

/** The family, by Rego names. */
export const JSON_MARSHAL: BuiltinFamily = {
  'json.is_valid': (operands, context) => {
    const [text] = operands
    if (typeof text !== 'string') return false
    spend(context, text.length * NS_PER_CHAR)
    return isJson(text)
  },
  'json.marshal': (operands, context) => toJsonText(anyOperand(operands, 1), null, context),
  'json.unmarshal': unmarshal,
  'json.marshal_with_options': (operands, context) => {
    const layout = readLayout(objectOperand(operands, 2))
    const text = toJsonText(anyOperand(operands, 1), layout, context)
    return layout === null ? text : layout.prefix + text
  },
}
