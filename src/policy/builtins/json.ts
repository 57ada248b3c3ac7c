/** `json.marshal_with_options`: OPA v1/topdown/encoding.go. */
import { BuiltinError } from './budget.ts'
import type { JsonLayout } from './json-text.ts'
import { toJsonText } from './json-text.ts'
import type { BuiltinFamily } from './operands.ts'
import { anyOperand, objectOperand } from './operands.ts'
import type { RegoObject } from './value.ts'

/** The layout that the options ask for; null when the text shall be compact. */
function readLayout(options: RegoObject): JsonLayout | null {
  let pretty: boolean | undefined
  let prefix: string | undefined
  let indent: string | undefined
  for (const [key, value] of options) {
    if (key === 'pretty' && typeof value === 'boolean') pretty = value
    else if (key === 'prefix' && typeof value === 'string') prefix = value
    else if (key === 'indent' && typeof value === 'string') indent = value
    else throw new BuiltinError('unknown or mistyped option')
  }
  const wanted = pretty ?? (prefix !== undefined || indent !== undefined)
  return wanted ? { prefix: prefix ?? '', indent: indent ?? '\t' } : null
}

/** The family, by Rego names. */
export const JSON_MARSHAL: BuiltinFamily = {
  'json.marshal_with_options': (operands) => {
    const layout = readLayout(objectOperand(operands, 2))
    const text = toJsonText(anyOperand(operands, 1), layout)
    return layout === null ? text : layout.prefix + text
  },
}
