/** `to_number` and `format_int`: OPA v1/topdown/casts.go and strings.go. */
import { readFloat, truncateFloat } from './big-float.ts'
import { BuiltinError, BuiltinLimitError } from './budget.ts'
import { integer, isIntegerLiteral, RegoNumber, toDouble } from './number.ts'
import type { BuiltinFamily } from './operands.ts'
import { anyOperand, numberOperand } from './operands.ts'
import type { RegoValue } from './value.ts'

/** What Go's `strconv.ParseFloat` takes, without `inf` and `nan`; hexadecimal apart. */
const DECIMAL = /^([+-]?)(\d+(?:_\d+)*|(?=\.\d))(?:\.(\d*(?:_\d+)*))?(?:[eE]([+-]?\d+(?:_\d+)*))?$/
const HEXADECIMAL = /^[+-]?0x[0-9a-f_.]*p/i

/** The number with its digits, written as JSON has it: `+1`, `.5` and `01` are numbers to OPA, too. */
function readNumber(text: string): RegoNumber {
  if (HEXADECIMAL.test(text)) throw new BuiltinLimitError('number_size', 'hexadecimal floating-point number')
  const match = DECIMAL.exec(text)
  if (match === null) throw new BuiltinError('invalid number')
  const [, sign = '', whole = '', fraction = '', exponent] = match.map((part) => part?.replaceAll('_', ''))
  const digits = whole.replace(/^0+(?=\d)/, '') || '0'
  const minus = sign === '-' ? '-' : ''
  const number = new RegoNumber(
    `${minus}${digits}${fraction === '' ? '' : `.${fraction}`}${exponent === undefined ? '' : `e${exponent}`}`,
  )
  if (toDouble(number) === undefined) throw new BuiltinError('value out of range')
  return number
}

function toNumber(value: RegoValue): RegoNumber {
  if (value instanceof RegoNumber) return value
  if (value === null || typeof value === 'boolean') return integer(value === true ? 1 : 0)
  if (typeof value === 'string') return readNumber(value)
  throw new BuiltinError('operand 1 must be one of {null, boolean, number, string}')
}

/** Digits behind the point are cut off. What is not written as an integer is a float to OPA, `1e30` as well. */
function truncated(number: RegoNumber): bigint {
  return isIntegerLiteral(number.text) ? BigInt(number.text) : truncateFloat(readFloat(number))
}

const RADIXES: ReadonlyMap<string, number> = new Map([
  ['2', 2],
  ['8', 8],
  ['10', 10],
  ['16', 16],
])

/** The family, by Rego names. */
export const CASTS: BuiltinFamily = {
  format_int: (operands) => {
    const number = numberOperand(operands, 1)
    const radix = RADIXES.get(numberOperand(operands, 2).text)
    if (radix === undefined) throw new BuiltinError('operand 2 must be one of {2, 8, 10, 16}')
    return truncated(number).toString(radix)
  },
  to_number: (operands) => toNumber(anyOperand(operands, 1)),
}
