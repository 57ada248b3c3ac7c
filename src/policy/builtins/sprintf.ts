/** `sprintf`: Go's `fmt.Sprintf` over the arguments OPA hands it, with all its error texts. */
import type { BuiltinContext } from './budget.ts'
import { boundText, spend } from './budget.ts'
import { RegoNumber, toDouble, toInt64 } from './number.ts'
import type { BuiltinFamily } from './operands.ts'
import { arrayOperand, stringOperand } from './operands.ts'
import type { Flags, PrintArgument } from './print-argument.ts'
import { formatArgument, NO_FLAGS, typeOf } from './print-argument.ts'
import { printValue } from './quote.ts'
import type { RegoValue } from './value.ts'

/** Go refuses widths, precisions and argument numbers beyond this. */
const MAX_NUMBER = 1_000_000
const NS_PER_CHAR = 20
const NS_PER_ARGUMENT = 4_000
/** Very large and very small doubles have hundreds of digits. */
const NS_PER_EXTREME_DOUBLE = 60_000

/** What OPA passes to Go for a Rego value: integers, doubles and texts; everything composite is printed first. */
function toArgument(value: RegoValue): PrintArgument {
  if (typeof value === 'string') return { kind: 'string', value }
  if (!(value instanceof RegoNumber)) return { kind: 'string', value: printValue(value) }
  if (/[.eE]/.test(value.text)) {
    const double = toDouble(value)
    return double === undefined ? { kind: 'string', value: value.text } : { kind: 'float64', value: double }
  }
  const small = toInt64(value)
  return small === undefined ? { kind: 'big', value: BigInt(value.text) } : { kind: 'int64', value: small }
}

/** A number in the format string and where it ends; undefined when there is none or it is too large. */
interface ScannedNumber {
  readonly value: number | undefined
  readonly next: number
}

class Formatter {
  readonly #format: string
  readonly #arguments: readonly PrintArgument[]
  readonly #context: BuiltinContext
  readonly #parts: string[] = []
  #length = 0
  #at = 0
  #argument = 0
  #reordered = false
  #goodIndex = true
  #afterIndex = false

  constructor(format: string, args: readonly PrintArgument[], context: BuiltinContext) {
    this.#format = format
    this.#arguments = args
    this.#context = context
  }

  run(): string {
    while (this.#at < this.#format.length) {
      const percent = this.#format.indexOf('%', this.#at)
      const end = percent < 0 ? this.#format.length : percent
      this.#write(this.#format.slice(this.#at, end))
      this.#at = end + 1
      if (percent >= 0) this.#directive()
    }
    if (!this.#reordered && this.#argument < this.#arguments.length) this.#extraArguments()
    return this.#parts.join('')
  }

  #write(part: string): void {
    this.#length += part.length
    boundText(this.#length)
    spend(this.#context, part.length + 50)
    this.#parts.push(part)
  }

  #directive(): void {
    this.#goodIndex = true
    let flags = this.#readFlags()
    this.#readIndex()
    flags = this.#readWidth(flags)
    flags = this.#readPrecision(flags)
    if (!this.#afterIndex) this.#readIndex()
    const codePoint = this.#format.codePointAt(this.#at)
    if (codePoint === undefined) {
      this.#write('%!(NOVERB)')
      return
    }
    const verb = String.fromCodePoint(codePoint)
    this.#at += verb.length
    this.#print(verb, flags)
  }

  #print(verb: string, flags: Flags): void {
    const argument = this.#arguments[this.#argument]
    if (verb === '%') this.#write('%')
    else if (!this.#goodIndex) this.#write(`%!${verb}(BADINDEX)`)
    else if (argument === undefined) this.#write(`%!${verb}(MISSING)`)
    else {
      boundText((flags.width ?? 0) + (flags.precision ?? 0))
      spend(this.#context, NS_PER_CHAR * ((flags.width ?? 0) + (flags.precision ?? 0)))
      spend(this.#context, argumentCost(argument))
      this.#write(formatArgument(argument, verb, flags))
      this.#argument += 1
    }
  }

  #readFlags(): Flags {
    const flags = { ...NO_FLAGS }
    for (; ; this.#at += 1) {
      switch (this.#format[this.#at]) {
        case '#':
          flags.sharp = true
          break
        case '0':
          flags.zero = true
          break
        case '+':
          flags.plus = true
          break
        case '-':
          flags.minus = true
          break
        case ' ':
          flags.space = true
          break
        default:
          return flags
      }
    }
  }

  #readWidth(flags: Flags): Flags {
    if (this.#format[this.#at] !== '*') {
      const width = this.#readNumber()
      if (this.#afterIndex && width !== undefined) this.#goodIndex = false
      return { ...flags, width }
    }
    this.#at += 1
    this.#afterIndex = false
    const width = this.#takeInteger()
    if (width === undefined) this.#write('%!(BADWIDTH)')
    return width !== undefined && width < 0
      ? { ...flags, width: -width, minus: true, zero: false }
      : { ...flags, width }
  }

  #readPrecision(flags: Flags): Flags {
    // A dot at the very end of the format is a verb, as in Go.
    if (this.#format[this.#at] !== '.' || this.#at + 1 >= this.#format.length) return flags
    this.#at += 1
    if (this.#afterIndex) this.#goodIndex = false
    this.#readIndex()
    if (this.#format[this.#at] !== '*') return { ...flags, precision: this.#readNumber() ?? 0 }
    this.#at += 1
    this.#afterIndex = false
    const precision = this.#takeInteger()
    if (precision !== undefined && precision >= 0) return { ...flags, precision }
    this.#write('%!(BADPREC)')
    return flags
  }

  /** The next argument as a width or precision. */
  #takeInteger(): number | undefined {
    const argument = this.#arguments[this.#argument]
    if (argument === undefined) return undefined
    this.#argument += 1
    if (argument.kind !== 'int64') return undefined
    const value = Number(argument.value)
    return Math.abs(value) > MAX_NUMBER ? undefined : value
  }

  #readNumber(): number | undefined {
    const { value, next } = scanNumber(this.#format, this.#at, this.#format.length)
    this.#at = next
    return value
  }

  /** Reads `[n]` when it is next. */
  #readIndex(): void {
    this.#afterIndex = false
    if (this.#format[this.#at] !== '[') return
    this.#reordered = true
    const close = this.#format.indexOf(']', this.#at + 1)
    if (close < 0) {
      this.#goodIndex = false
      this.#at += 1
      return
    }
    const { value, next } = scanNumber(this.#format, this.#at + 1, close)
    this.#at = close + 1
    const isNumber = value !== undefined && next === close
    const inRange = isNumber && value >= 1 && value <= this.#arguments.length
    if (inRange) this.#argument = value - 1
    else this.#goodIndex = false
    this.#afterIndex = isNumber
  }

  #extraArguments(): void {
    const extra = this.#arguments.slice(this.#argument)
    const texts = extra.map((argument) => `${typeOf(argument)}=${formatArgument(argument, 'v', NO_FLAGS)}`)
    this.#write(`%!(EXTRA ${texts.join(', ')})`)
  }
}

function argumentCost(argument: PrintArgument): number {
  if (argument.kind === 'string') return NS_PER_ARGUMENT + argument.value.length * NS_PER_CHAR * 10
  if (argument.kind !== 'float64') return NS_PER_ARGUMENT
  const magnitude = Math.abs(argument.value)
  const isExtreme = magnitude !== 0 && (magnitude < 1e-30 || magnitude > 1e30)
  return isExtreme ? NS_PER_EXTREME_DOUBLE : NS_PER_ARGUMENT
}

function scanNumber(format: string, start: number, end: number): ScannedNumber {
  let value: number | undefined
  for (let at = start; at < end; at += 1) {
    const digit = format.charCodeAt(at) - 48
    if (!(digit >= 0 && digit <= 9)) return { value, next: at }
    // As in Go the check comes a digit late, and an overflow swallows the rest.
    if (value !== undefined && value > MAX_NUMBER) return { value: undefined, next: end }
    value = (value ?? 0) * 10 + digit
  }
  return { value, next: end }
}

/** The family, by Rego names. */
export const SPRINTF: BuiltinFamily = {
  sprintf: (operands, context) => {
    const format = stringOperand(operands, 1)
    const args = arrayOperand(operands, 2)
    spend(context, format.length * NS_PER_CHAR + args.length * NS_PER_ARGUMENT)
    return new Formatter(format, args.map(toArgument), context).run()
  },
}
