/** `yaml.marshal`, `yaml.unmarshal`, `yaml.is_valid`: OPA internal/yaml. */
import { BuiltinError, spend } from './budget.ts'
import { toJsonText } from './json-text.ts'
import type { BuiltinFamily } from './operands.ts'
import { anyOperand, stringOperand } from './operands.ts'
import { parseYaml } from './yaml-read.ts'
import { hasForbiddenCharacters } from './yaml-scalar.ts'
import { formatYaml } from './yaml-write.ts'

const NS_PER_CHAR = 600

/** The family, by Rego names. */
export const YAML: BuiltinFamily = {
  'yaml.is_valid': (operands, context) => {
    const text = operands[0]
    if (typeof text !== 'string') return false
    try {
      parseYaml(text, context)
      return true
    } catch (thrown) {
      if (thrown instanceof BuiltinError) return false
      throw thrown
    }
  },
  'yaml.marshal': (operands, context) => {
    const value = anyOperand(operands, 1)
    const json = toJsonText(value, null, context)
    spend(context, NS_PER_CHAR * json.length)
    // OPA passes the JSON text through the YAML reader first.
    if (hasForbiddenCharacters(json)) throw new BuiltinError('control characters are not allowed')
    return formatYaml(value, context)
  },
  'yaml.unmarshal': (operands, context) => parseYaml(stringOperand(operands, 1), context),
}
