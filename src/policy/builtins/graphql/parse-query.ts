/** GraphQL queries to documents: gqlparser's parser/query.go. */
import type { BuiltinContext } from '../budget.ts'
import type {
  CommentGroup,
  Field,
  FragmentDefinition,
  FragmentSpread,
  InlineFragment,
  OperationDefinition,
  QueryDocument,
  Selection,
  VariableDefinition,
} from './document.ts'
import { Parser } from './parser.ts'

const OPERATIONS: readonly string[] = ['query', 'mutation', 'subscription']

/**
 * The document of a query text. Text without any definition is an empty document, as in OPA.
 *
 * @throws {BuiltinError} where it is no GraphQL, {@link BuiltinLimitError} where it is too deep or too long
 */
export function parseQuery(text: string, context: BuiltinContext): QueryDocument {
  const parser = new QueryParser(text, context)
  const document: QueryDocument = { Operations: [], Fragments: [], Comment: null }
  while (!parser.at('end')) {
    if (parser.at('{') || OPERATIONS.some((operation) => parser.atName(operation))) {
      document.Operations.push(parser.operation())
    } else {
      document.Fragments.push(parser.fragmentDefinition())
    }
  }
  return document
}

class QueryParser extends Parser {
  operation(): OperationDefinition {
    if (this.at('{')) {
      // gqlparser reads the comment of an anonymous query behind it, where there is none any more.
      return {
        Operation: 'query',
        Name: '',
        VariableDefinitions: [],
        Directives: [],
        SelectionSet: this.#selections(),
        Comment: null,
      }
    }
    const Comment = this.comment()
    return {
      Operation: this.name(),
      Name: this.at('name') ? this.name() : '',
      VariableDefinitions: this.#variables(),
      Directives: this.directives(false),
      SelectionSet: this.#selections(),
      Comment,
    }
  }

  fragmentDefinition(): FragmentDefinition {
    const Comment = this.comment()
    this.expectKeyword('fragment')
    const Name = this.#fragmentName()
    const variables = this.#variables()
    this.expectKeyword('on')
    return {
      Name,
      VariableDefinition: variables,
      TypeCondition: this.name(),
      Directives: this.directives(false),
      SelectionSet: this.#selections(),
      Definition: null,
      Comment,
    }
  }

  #fragmentName(): string {
    if (this.atName('on')) throw this.unexpected()
    return this.name()
  }

  #variables(): VariableDefinition[] {
    return this.some('(', ')', () => {
      const Comment = this.comment()
      const Variable = this.variable()
      this.expect(':')
      return {
        Variable,
        Type: this.type(),
        DefaultValue: this.skip('=') ? this.value(true) : null,
        Directives: this.directives(false),
        Definition: null,
        Used: false,
        Comment,
      }
    }).elements
  }

  #selections(): Selection[] {
    if (!this.at('{')) throw this.unexpected()
    return this.nested(() => this.some('{', '}', () => this.#selection()).elements)
  }

  #selection(): Selection {
    if (!this.at('...')) return this.#field()
    const { comment } = this.take()
    return this.at('name') && !this.atName('on') ? this.#spread(comment) : this.#inlineFragment(comment)
  }

  #field(): Field {
    const Comment = this.comment()
    const Alias = this.name()
    return {
      Alias,
      Name: this.skip(':') ? this.name() : Alias,
      Arguments: this.arguments(false),
      Directives: this.directives(false),
      SelectionSet: this.at('{') ? this.#selections() : [],
      Definition: null,
      ObjectDefinition: null,
      Comment,
    }
  }

  #spread(comment: CommentGroup | null): FragmentSpread {
    return {
      Name: this.name(),
      Directives: this.directives(false),
      Comment: comment,
      ObjectDefinition: null,
      Definition: null,
    }
  }

  #inlineFragment(comment: CommentGroup | null): InlineFragment {
    return {
      TypeCondition: this.#typeCondition(),
      Directives: this.directives(false),
      SelectionSet: this.#selections(),
      ObjectDefinition: null,
      Comment: comment,
    }
  }

  /** gqlparser looks at the value of the token alone, so a string "on" opens a condition, too. */
  #typeCondition(): string {
    if (this.peek().value !== 'on') return ''
    this.take()
    return this.name()
  }
}
