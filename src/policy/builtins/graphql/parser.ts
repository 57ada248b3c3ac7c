/** The grammar that queries and schemas share: names, values, types, directives. OPA's parser: gqlparser v2. */
import type { BuiltinContext } from '../budget.ts'
import { BuiltinError, BuiltinLimitError } from '../budget.ts'
import type { Argument, ChildValue, CommentGroup, Directive, Type, Value } from './document.ts'
import { VALUE_KIND } from './document.ts'
import type { Token } from './lexer.ts'
import { Lexer } from './lexer.ts'

/** Deepest nesting of selections, values and types; as JSON each level has up to three. */
const MAX_NESTING = 128

const KIND_OF_TOKEN: Readonly<Record<string, number>> = {
  int: VALUE_KIND.int,
  float: VALUE_KIND.float,
  string: VALUE_KIND.string,
  block: VALUE_KIND.block,
}
const KIND_OF_NAME: ReadonlyMap<string, number> = new Map([
  ['true', VALUE_KIND.boolean],
  ['false', VALUE_KIND.boolean],
  ['null', VALUE_KIND.null],
])

/** Reads one text, one token ahead. Whatever does not fit is a {@link BuiltinError}. */
export class Parser {
  readonly #lexer: Lexer
  #peeked: Token | null = null
  #nesting = 0

  constructor(text: string, context: BuiltinContext) {
    this.#lexer = new Lexer(text, context)
  }

  /** The next token, which stays. */
  peek(): Token {
    this.#peeked ??= this.#lexer.next()
    return this.#peeked
  }

  /** The next token, which is taken. */
  take(): Token {
    const token = this.peek()
    this.#peeked = null
    return token
  }

  /** The comment in front of the next token. */
  comment(): CommentGroup | null {
    return this.peek().comment
  }

  /** Whether the next token is of the kind. */
  at(kind: string): boolean {
    return this.peek().kind === kind
  }

  /** Whether the next token is this name. */
  atName(value: string): boolean {
    return this.at('name') && this.peek().value === value
  }

  /** Takes the next token if it is of the kind. */
  skip(kind: string): boolean {
    if (!this.at(kind)) return false
    this.take()
    return true
  }

  /** Takes a token that must be of the kind. */
  expect(kind: string): Token {
    if (!this.at(kind)) throw this.unexpected()
    return this.take()
  }

  /** Takes a name that must be this one. */
  expectKeyword(value: string): Token {
    if (!this.atName(value)) throw this.unexpected()
    return this.take()
  }

  /** The error for a token that does not fit here. */
  unexpected(token = this.peek()): BuiltinError {
    return new BuiltinError(`unexpected ${token.kind}`)
  }

  /** Takes a name. */
  name(): string {
    return this.expect('name').value
  }

  /** Elements between brackets, none or more; no brackets: no elements. */
  many<T>(open: string, close: string, read: () => T): T[] {
    const elements: T[] = []
    if (!this.skip(open)) return elements
    while (!this.at(close)) elements.push(read())
    this.take()
    return elements
  }

  /** Elements between brackets, at least one; no brackets: no elements. `end` is the comment before the closing one. */
  some<T>(
    open: string,
    close: string,
    read: () => T,
  ): { readonly elements: T[]; readonly end: CommentGroup | null } {
    const elements: T[] = []
    if (!this.skip(open)) return { elements, end: null }
    while (!this.at(close)) elements.push(read())
    if (elements.length === 0) throw new BuiltinError('expected at least one definition')
    return { elements, end: this.take().comment }
  }

  /** Does work that is one level deeper. */
  nested<T>(work: () => T): T {
    this.#nesting += 1
    if (this.#nesting > MAX_NESTING) {
      throw new BuiltinLimitError('value_depth', `GraphQL text nested deeper than ${MAX_NESTING}`)
    }
    const result = work()
    this.#nesting -= 1
    return result
  }

  /** Uses of directives, none or more; their arguments hold variables unless `constant`. */
  directives(constant: boolean): Directive[] {
    const directives: Directive[] = []
    while (this.skip('@')) {
      directives.push({
        Name: this.name(),
        Arguments: this.arguments(constant),
        ParentDefinition: null,
        Definition: null,
        Location: '',
      })
    }
    return directives
  }

  /** Arguments in parentheses, if there are any. */
  arguments(constant: boolean): Argument[] {
    return this.some('(', ')', () => {
      const Comment = this.comment()
      const Name = this.name()
      this.expect(':')
      return { Name, Value: this.value(constant), Comment }
    }).elements
  }

  /** A value literal; a constant one holds no variables. */
  value(constant: boolean): Value {
    const { kind, value, comment } = this.peek()
    if (kind === '[') return this.#collection(VALUE_KIND.list, comment, () => this.#listValues(constant))
    if (kind === '{') return this.#collection(VALUE_KIND.object, comment, () => this.#objectFields(constant))
    if (kind === '$' && !constant) {
      // The comment of a variable is lost in gqlparser, like that of any scalar: it reads the comment after the token.
      return toValue(VALUE_KIND.variable, this.variable())
    }
    const scalar = kind === 'name' ? (KIND_OF_NAME.get(value) ?? VALUE_KIND.enum) : KIND_OF_TOKEN[kind]
    if (scalar === undefined) throw this.unexpected()
    this.take()
    return toValue(scalar, value)
  }

  /** `$name` */
  variable(): string {
    this.expect('$')
    return this.name()
  }

  #collection(kind: number, comment: CommentGroup | null, read: () => ChildValue[]): Value {
    return { ...toValue(kind, ''), Children: this.nested(read), Comment: comment }
  }

  #listValues(constant: boolean): ChildValue[] {
    return this.many('[', ']', () => ({ Name: '', Value: this.value(constant), Comment: null }))
  }

  #objectFields(constant: boolean): ChildValue[] {
    return this.many('{', '}', () => {
      const Comment = this.comment()
      const Name = this.name()
      this.expect(':')
      return { Name, Value: this.value(constant), Comment }
    })
  }

  /** A type reference. */
  type(): Type {
    if (!this.skip('[')) return { NamedType: this.name(), Elem: null, NonNull: this.skip('!') }
    const Elem = this.nested(() => this.type())
    this.expect(']')
    return { NamedType: '', Elem, NonNull: this.skip('!') }
  }
}

function toValue(kind: number, raw: string): Value {
  return {
    Raw: raw,
    Children: [],
    Kind: kind,
    Comment: null,
    Definition: null,
    VariableDefinition: null,
    ExpectedType: null,
    ExpectedTypeHasDefault: false,
  }
}
