/** GraphQL schemas to documents: gqlparser's parser/schema.go. */
import type { BuiltinContext } from '../budget.ts'
import { BuiltinError } from '../budget.ts'
import type {
  ArgumentDefinition,
  CommentGroup,
  Definition,
  DirectiveDefinition,
  EnumValueDefinition,
  FieldDefinition,
  OperationTypeDefinition,
  SchemaDefinition,
  SchemaDocument,
} from './document.ts'
import { Parser } from './parser.ts'

const KIND_OF_KEYWORD: ReadonlyMap<string, string> = new Map([
  ['scalar', 'SCALAR'],
  ['type', 'OBJECT'],
  ['interface', 'INTERFACE'],
  ['union', 'UNION'],
  ['enum', 'ENUM'],
  ['input', 'INPUT_OBJECT'],
])
const LOCATIONS: ReadonlySet<string> = new Set([
  'QUERY',
  'MUTATION',
  'SUBSCRIPTION',
  'FIELD',
  'FRAGMENT_DEFINITION',
  'FRAGMENT_SPREAD',
  'INLINE_FRAGMENT',
  'VARIABLE_DEFINITION',
  'SCHEMA',
  'SCALAR',
  'OBJECT',
  'FIELD_DEFINITION',
  'ARGUMENT_DEFINITION',
  'INTERFACE',
  'UNION',
  'ENUM',
  'ENUM_VALUE',
  'INPUT_OBJECT',
  'INPUT_FIELD_DEFINITION',
])

/** A description with the comment in front of it. */
interface Description {
  readonly text: string
  readonly comment: CommentGroup | null
}

const UNDESCRIBED: Description = { text: '', comment: null }

/**
 * The document of a schema text, without the definitions that every schema has.
 *
 * @throws {BuiltinError} where it is no GraphQL, {@link BuiltinLimitError} where it is too deep or too long
 */
export function parseSchema(text: string, context: BuiltinContext): SchemaDocument {
  const parser = new SchemaParser(text, context)
  const document: SchemaDocument = {
    Schema: [],
    SchemaExtension: [],
    Directives: [],
    Definitions: [],
    Extensions: [],
    Comment: null,
  }
  while (!parser.at('end')) parser.definitionInto(document)
  return { ...document, Comment: parser.comment() }
}

class SchemaParser extends Parser {
  definitionInto(document: SchemaDocument): void {
    const description = this.#description()
    if (!this.at('name')) throw this.unexpected()
    const keyword = this.peek().value
    if (KIND_OF_KEYWORD.has(keyword)) document.Definitions.push(this.#definition(description))
    else if (keyword === 'schema') document.Schema.push(this.#schemaDefinition(description))
    else if (keyword === 'directive') document.Directives.push(this.#directiveDefinition(description))
    else if (keyword === 'extend' && description.text === '') this.#extensionInto(document)
    else throw this.unexpected()
  }

  #extensionInto(document: SchemaDocument): void {
    const { comment } = this.take()
    if (this.atName('schema')) {
      const extension = { ...this.#schemaDefinition(UNDESCRIBED), AfterDescriptionComment: comment }
      if (extension.Directives.length + extension.OperationTypes.length === 0) throw this.unexpected()
      document.SchemaExtension.push(extension)
      return
    }
    const extension = { ...this.#definition(UNDESCRIBED, true), AfterDescriptionComment: comment }
    const { Interfaces, Directives, Fields, Types, EnumValues } = extension
    if (Interfaces.length + Directives.length + Fields.length + Types.length + EnumValues.length === 0) {
      throw this.unexpected()
    }
    document.Extensions.push(extension)
  }

  #description(): Description {
    if (!this.at('string') && !this.at('block')) return UNDESCRIBED
    const { value, comment } = this.take()
    return { text: value, comment }
  }

  /** Of a member of a definition: an empty description counts as none, and its comment is lost. */
  #memberDescription(): {
    readonly Description: string
    readonly BeforeDescriptionComment: CommentGroup | null
    readonly AfterDescriptionComment: CommentGroup | null
  } {
    const { text, comment } = this.#description()
    return {
      Description: text,
      BeforeDescriptionComment: text === '' ? null : comment,
      AfterDescriptionComment: this.comment(),
    }
  }

  #schemaDefinition(description: Description): SchemaDefinition {
    const { comment } = this.expectKeyword('schema')
    const directives = this.directives(true)
    const { elements, end } = this.some('{', '}', () => this.#operationType())
    return {
      Description: description.text,
      Directives: directives,
      OperationTypes: elements,
      BeforeDescriptionComment: description.comment,
      AfterDescriptionComment: comment,
      EndOfDefinitionComment: end,
    }
  }

  /** gqlparser looks at the value of the token alone, so a string "query" names an operation, too. */
  #operationType(): OperationTypeDefinition {
    const { value, comment } = this.take()
    if (!['query', 'mutation', 'subscription'].includes(value)) {
      throw new BuiltinError('unknown operation type')
    }
    this.expect(':')
    return { Operation: value, Type: this.name(), Comment: comment }
  }

  /** A type, or what extends one: extensions of interfaces implement nothing, those of inputs take variables. */
  #definition(description: Description, extension = false): Definition {
    const { value: keyword, comment } = this.expect('name')
    const kind = KIND_OF_KEYWORD.get(keyword)
    if (kind === undefined) throw new BuiltinError('unknown kind of definition')
    const name = this.name()
    const implementing = kind === 'OBJECT' || (kind === 'INTERFACE' && !extension)
    const interfaces = implementing ? this.#interfaces() : []
    const directives = this.directives(!(extension && kind === 'INPUT_OBJECT'))
    return {
      Kind: kind,
      Description: description.text,
      Name: name,
      Directives: directives,
      Interfaces: interfaces,
      Fields: [],
      Types: kind === 'UNION' ? this.#memberTypes() : [],
      EnumValues: [],
      BuiltIn: false,
      BeforeDescriptionComment: description.comment,
      AfterDescriptionComment: comment,
      EndOfDefinitionComment: null,
      ...this.#members(kind),
    }
  }

  #members(kind: string): Partial<Pick<Definition, 'Fields' | 'EnumValues' | 'EndOfDefinitionComment'>> {
    switch (kind) {
      case 'OBJECT':
      case 'INTERFACE':
      case 'INPUT_OBJECT': {
        const input = kind === 'INPUT_OBJECT'
        const { elements, end } = this.some('{', '}', () => this.#field(input))
        return { Fields: elements, EndOfDefinitionComment: end }
      }
      case 'ENUM': {
        const { elements, end } = this.some('{', '}', () => this.#enumValue())
        return { EnumValues: elements, EndOfDefinitionComment: end }
      }
      default:
        return {}
    }
  }

  /** gqlparser looks at the value of the token alone, so a string "implements" will do. */
  #interfaces(): string[] {
    if (this.peek().value !== 'implements') return []
    this.take()
    this.skip('&')
    return this.#names('&')
  }

  #memberTypes(): string[] {
    if (!this.skip('=')) return []
    this.skip('|')
    return this.#names('|')
  }

  #names(separator: string): string[] {
    const names = [this.name()]
    while (this.skip(separator)) names.push(this.name())
    return names
  }

  /** A field of an object takes arguments, one of an input object has a default. */
  #field(input: boolean): FieldDefinition {
    const described = this.#memberDescription()
    const Name = this.name()
    const parameters = input ? [] : this.#argumentDefinitions()
    this.expect(':')
    return {
      ...described,
      Name,
      Arguments: parameters,
      Type: this.type(),
      DefaultValue: input && this.skip('=') ? this.value(true) : null,
      Directives: this.directives(true),
    }
  }

  #argumentDefinitions(): ArgumentDefinition[] {
    return this.some('(', ')', () => {
      const { Arguments: _, ...definition } = this.#field(true)
      return definition
    }).elements
  }

  #enumValue(): EnumValueDefinition {
    return {
      ...this.#memberDescription(),
      Name: this.name(),
      Directives: this.directives(true),
    }
  }

  #directiveDefinition(description: Description): DirectiveDefinition {
    const { comment } = this.take()
    this.expect('@')
    const name = this.name()
    const parameters = this.#argumentDefinitions()
    const repeatable = this.atName('repeatable')
    if (repeatable) this.take()
    this.expectKeyword('on')
    return {
      Description: description.text,
      Name: name,
      Arguments: parameters,
      Locations: this.#locations(),
      IsRepeatable: repeatable,
      BeforeDescriptionComment: description.comment,
      AfterDescriptionComment: comment,
    }
  }

  #locations(): string[] {
    this.skip('|')
    const names = this.#names('|')
    if (!names.every((name) => LOCATIONS.has(name))) throw new BuiltinError('unknown directive location')
    return names
  }
}
