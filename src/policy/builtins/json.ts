/** `json.marshal_with_options`: OPA v1/topdown/encoding.go. */
import { BuiltinError } from './budget.ts'
import type { JsonLayout } from './json-text.ts'
import { toJsonText } from './json-text.ts'
import type { BuiltinFamily } from './operands.ts'
import { anyOperand, objectOperand } from './operands.ts'
import type { RegoObject } from './value.ts'

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

/** The family, by Rego names. */
export const JSON_MARSHAL: BuiltinFamily = {
  'json.marshal_with_options': (operands, context) => {
    const layout = readLayout(objectOperand(operands, 2))
    const text = toJsonText(anyOperand(operands, 1), layout, context)
    return layout === null ? text : layout.prefix + text
  },
}
