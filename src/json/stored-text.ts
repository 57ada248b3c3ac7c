/**
 * JSON text -> the text that PostgreSQL prints for it once it is stored as `jsonb`. Whoever knows that text beforehand can
 * take its digest before the row is stored, and everybody can take it again from the column as it stands.
 *
 * What `jsonb` does (the same from PostgreSQL 14 to 18): members by length of their name in bytes, then by those bytes; of
 * equal names the last one; `, ` and `: ` between; numbers as `numeric`, which keeps every digit and no exponent; strings
 * with the shortest escapes. Text that `jsonb` refuses comes out in a form that it refuses as well.
 */

declare const STORED: unique symbol

/** JSON text exactly as `jsonb` prints it. What is put together from such texts in that very form needs no second reading. */
export type StoredText = string & { readonly [STORED]: true }

const FEW_MEMBERS = 16
/** Beyond it PostgreSQL refuses the number, and spelling it out would only cost memory. */
const MAX_EXPONENT = 140_000

/** The text as `jsonb` prints it. Depth costs no stack. Throws SyntaxError when the text is not JSON. */
export function toStoredText(json: string): StoredText {
  return new Printer(json).print() as StoredText
}

/** The stored text of a value of our own, as `JSON.stringify` reads it: no `toJSON`, no cycles, no great depth. */
export function storedJson(value: unknown): StoredText {
  if (Array.isArray(value)) return storedArray(value.map(storedJson))
  if (typeof value === 'object' && value !== null) return storedObject(value)
  const json = JSON.stringify(value) ?? 'null'
  return typeof value === 'number' && json.includes('e') ? toStoredText(json) : (json as StoredText)
}

function storedObject(value: object): StoredText {
  const members = Object.entries(value).filter(([, member]) => member !== undefined)
  const texts = members.sort(([left], [right]) => compareNames(left, right)).map(toMember)
  return `{${texts.join(', ')}}` as StoredText
}

function toMember([name, value]: readonly [string, unknown]): string {
  return `${JSON.stringify(name)}: ${storedJson(value)}`
}

/** An array of stored texts. */
export function storedArray(elements: readonly StoredText[]): StoredText {
  return `[${elements.join(', ')}]` as StoredText
}

/** The texts of an object's members by name; those that are null or absent are left out. */
export type StoredMembers<Name extends string> = { readonly [name in Name]?: StoredText | null }

/** A printer of objects that have no other members than these. Names are put in order once. */
export function createObjectPrinter<Name extends string>(
  ...names: readonly Name[]
): (members: StoredMembers<Name>) => StoredText {
  const print = createPrinter(names)
  return (members) => print((name) => members[name])
}

/** The same for objects of our own (see {@link storedJson}). Members that are absent are left out; null is a value. */
export function createRecordPrinter<Name extends string>(
  names: readonly Name[],
): (record: { readonly [name in Name]?: unknown }) => StoredText {
  const print = createPrinter(names)
  return (record) => print((name) => (record[name] === undefined ? null : storedJson(record[name])))
}

function createPrinter<Name extends string>(
  names: readonly Name[],
): (textOf: (name: Name) => StoredText | null | undefined) => StoredText {
  const ordered = [...names].sort(compareNames).map((name) => [name, `${JSON.stringify(name)}: `] as const)
  return (textOf) => {
    let text = ''
    for (const [name, token] of ordered) {
      const value = textOf(name)
      if (value === null || value === undefined) continue
      text += text === '' ? token : `, ${token}`
      text += value
    }
    return `{${text}}` as StoredText
  }
}

/** The order in which `jsonb` keeps the members of an object. */
export function compareNames(left: string, right: string): number {
  const compare = isAscii(left) && isAscii(right) ? compareAscii : compareBytes
  return compare({ name: left }, { name: right })
}

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

interface Member {
  readonly name: string
  /** Name as it is printed. */
  readonly token: string
  value: string
}

/** An array or object whose end has not been read yet. */
interface Container {
  /** null in an object. */
  readonly items: string[] | null
  readonly members: Member[]
  /** All names are ASCII, so their length is that of their bytes. */
  isAscii: boolean
}

class Printer {
  readonly #text: string
  readonly #isAscii: boolean
  #at = 0
  /** Place of the next backslash at or after {@link #at}; the length of the text when there is none. */
  #backslash = -1
  /** The string read last held an escape, so it may be anything. */
  #wasEscaped = false
  readonly #open: Container[] = []

  constructor(text: string) {
    this.#text = text
    this.#isAscii = isAscii(text)
  }

  print(): string {
    for (;;) {
      const value = this.#value()
      const whole = value === null ? null : this.#attach(value)
      if (whole === null) continue
      if (!Number.isNaN(this.#peek())) throw this.#fault()
      return whole
    }
  }

  /** A scalar or an empty container; null when a container has been opened and its first value comes next. */
  #value(): string | null {
    const code = this.#peek()
    if (code === QUOTE) return this.#string()
    if (code === OPEN_BRACE) return this.#openObject()
    if (code === OPEN_BRACKET) return this.#openArray()
    return this.#word('true') ?? this.#word('false') ?? this.#word('null') ?? this.#number()
  }

  #openArray(): string | null {
    this.#at += 1
    if (this.#peek() === CLOSE_BRACKET) return this.#take('[]')
    this.#open.push({ items: [], members: [], isAscii: true })
    return null
  }

  #openObject(): string | null {
    this.#at += 1
    if (this.#peek() === CLOSE_BRACE) return this.#take('{}')
    const container: Container = { items: null, members: [], isAscii: true }
    this.#open.push(container)
    this.#name(container)
    return null
  }

  #take(printed: string): string {
    this.#at += 1
    return printed
  }

  /** Reads the name of the next member and its colon. */
  #name(container: Container): void {
    if (this.#peek() !== QUOTE) throw this.#fault()
    const token = this.#string()
    const name = token.includes('\\') ? (JSON.parse(token) as string) : token.slice(1, -1)
    if (this.#wasEscaped || !this.#isAscii) container.isAscii = false
    container.members.push({ name, token, value: '' })
    if (this.#peek() !== COLON) throw this.#fault()
    this.#at += 1
  }

  /** Puts a finished value into its container and closes what ends there; the text when nothing is open any more. */
  #attach(first: string): string | null {
    let value: string | null = first
    for (let container = this.#open.at(-1); container !== undefined; container = this.#open.at(-1)) {
      const member = container.members.at(-1)
      if (container.items !== null) container.items.push(value)
      else if (member !== undefined) member.value = value
      value = this.#next(container)
      if (value === null) return null
    }
    return value
  }

  /** After a value: null when another one follows, the text of the container when it ends. */
  #next(container: Container): string | null {
    const { items } = container
    const code = this.#peek()
    this.#at += 1
    if (code === COMMA) {
      if (items === null) this.#name(container)
      return null
    }
    if (code !== (items === null ? CLOSE_BRACE : CLOSE_BRACKET)) throw this.#fault()
    this.#open.pop()
    return items === null ? printMembers(container) : `[${items.join(', ')}]`
  }

  #string(): string {
    const text = this.#text
    const start = this.#at
    const end = text.indexOf('"', start + 1)
    if (this.#backslash < start) {
      const next = text.indexOf('\\', start)
      this.#backslash = next === -1 ? text.length : next
    }
    if (end === -1) throw this.#fault()
    this.#wasEscaped = end > this.#backslash
    if (!this.#wasEscaped) {
      this.#at = end + 1
      return text.slice(start, this.#at)
    }
    this.#at = escapedEnd(text, start + 1)
    return JSON.stringify(JSON.parse(text.slice(start, this.#at)))
  }

  #word(word: string): string | null {
    if (!this.#text.startsWith(word, this.#at)) return null
    this.#at += word.length
    return word
  }

  #number(): string {
    NUMBER.lastIndex = this.#at
    const match = NUMBER.exec(this.#text)
    if (match === null) throw this.#fault()
    const [token, integer = '', fraction = '', exponent] = match
    this.#at += token.length
    return exponent === undefined
      ? printPlain(token)
      : printExponent(token, integer, fraction, Number(exponent))
  }

  /** Code of the next character that is not white space; NaN at the end. */
  #peek(): number {
    let code = this.#text.charCodeAt(this.#at)
    while (code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09) {
      this.#at += 1
      code = this.#text.charCodeAt(this.#at)
    }
    return code
  }

  #fault(): SyntaxError {
    return new SyntaxError(`not JSON at offset ${this.#at}`)
  }
}

const NUMBER = /-?(0|[1-9]\d*)(?:\.(\d+))?(?:[eE]([+-]?\d+))?/y

/** Index after the closing quote of a string whose content begins at `at`. */
function escapedEnd(text: string, from: number): number {
  for (let at = from; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) return at + 1
    if (code === 0x5c) at += 1
  }
  throw new SyntaxError('not JSON: a string has no end')
}

/** `numeric` knows no negative zero. */
function printPlain(token: string): string {
  return token.startsWith('-') && !/[1-9]/.test(token) ? token.slice(1) : token
}

function printExponent(token: string, integer: string, fraction: string, exponent: number): string {
  if (Math.abs(exponent) > MAX_EXPONENT) return token
  const digits = integer + fraction
  const point = integer.length + exponent
  const padded = point > 0 ? digits.padEnd(point, '0') : `${'0'.repeat(1 - point)}${digits}`
  const at = Math.max(point, 1)
  const whole = padded.slice(0, at).replace(/^0+(?=\d)/, '')
  const rest = padded.slice(at)
  const sign = token.startsWith('-') ? '-' : ''
  return printPlain(rest === '' ? `${sign}${whole}` : `${sign}${whole}.${rest}`)
}

function printMembers({ members, isAscii }: Container): string {
  const compare = isAscii ? compareAscii : compareBytes
  if (members.length > FEW_MEMBERS) members.sort(compare)
  else sortFew(members, compare)
  let text = '{'
  for (let at = 0; at < members.length; at += 1) {
    const member = members[at]
    // The sort is stable: of equal names the last one stands last.
    if (member === undefined || members[at + 1]?.name === member.name) continue
    text += `${text === '{' ? '' : ', '}${member.token}: ${member.value}`
  }
  return `${text}}`
}

/** A plain insertion sort: for a handful of members several times as fast as the built-in one, and stable like it. */
function sortFew(members: Member[], compare: (left: Member, right: Member) => number): void {
  for (let from = 1; from < members.length; from += 1) {
    const member = members[from] as Member
    let to = from
    for (; to > 0 && compare(members[to - 1] as Member, member) > 0; to -= 1)
      members[to] = members[to - 1] as Member
    members[to] = member
  }
}

function isAscii(text: string): boolean {
  return /^[\0-\x7f]*$/.test(text)
}

type Named = Pick<Member, 'name'>

function compareAscii({ name: left }: Named, { name: right }: Named): number {
  if (left.length !== right.length) return left.length - right.length
  if (left === right) return 0
  return left < right ? -1 : 1
}

function compareBytes({ name: left }: Named, { name: right }: Named): number {
  const [leftBytes, rightBytes] = [Buffer.from(left), Buffer.from(right)]
  return leftBytes.length - rightBytes.length || Buffer.compare(leftBytes, rightBytes)
}
