/** Walking a query together with the schema it is for, in the order of gqlparser's validator/core/walk.go. */
import type { BuiltinContext } from '../budget.ts'
import { spend } from '../budget.ts'
import type {
  Argument,
  ArgumentDefinition,
  Definition,
  Directive,
  Field,
  FieldDefinition,
  FragmentDefinition,
  FragmentSpread,
  InlineFragment,
  OperationDefinition,
  QueryDocument,
  Selection,
  Value,
  VariableDefinition,
} from './document.ts'
import { isField, isInlineFragment, VALUE_KIND } from './document.ts'
import { Descent, named, typeName } from './lookup.ts'
import type { Schema } from './schema.ts'

/** Work per rule that hears of a node. */
const NS_PER_EVENT = 20

/** What a rule wants to hear of. Nodes are told of after all that is in them; variables before. */
export interface Rule {
  operation?(operation: OperationDefinition): void
  variable?(variable: VariableDefinition): void
  fragment?(fragment: FragmentDefinition): void
  field?(field: Field): void
  inlineFragment?(fragment: InlineFragment): void
  fragmentSpread?(spread: FragmentSpread): void
  directive?(directive: Directive): void
  directives?(directives: readonly Directive[]): void
  value?(value: Value): void
}

/** What rules look at besides the node they are told of. */
export interface Walk {
  readonly schema: Schema
  readonly document: QueryDocument
  readonly context: BuiltinContext
  /** The operation that is being walked; null in a fragment's own definition. */
  readonly operation: OperationDefinition | null
}

const TYPENAME: FieldDefinition = {
  Name: '__typename',
  Description: '',
  BeforeDescriptionComment: null,
  AfterDescriptionComment: null,
  Arguments: [],
  DefaultValue: null,
  Type: { NamedType: 'String', Elem: null, NonNull: false },
  Directives: [],
}

/** Walks a document, finds out what its nodes refer to, and tells the rules. */
export class Walker implements Walk {
  readonly schema: Schema
  readonly document: QueryDocument
  readonly context: BuiltinContext
  operation: OperationDefinition | null = null
  readonly #rules: readonly Rule[]
  readonly #descent: Descent
  /** Fragments whose selections have been walked for the operation at hand. */
  #walked = new Set<string>()

  constructor(
    schema: Schema,
    document: QueryDocument,
    rules: (walk: Walk) => readonly Rule[],
    context: BuiltinContext,
  ) {
    this.schema = schema
    this.document = document
    this.context = context
    this.#descent = new Descent(context)
    this.#rules = rules(this)
  }

  /** @throws whatever a rule throws */
  walk(): void {
    for (const operation of this.document.Operations) {
      this.#walked = new Set()
      this.#operation(operation)
    }
    for (const fragment of this.document.Fragments) {
      this.#walked = new Set()
      this.#fragment(fragment)
    }
  }

  #tell(tell: (rule: Rule) => void): void {
    spend(this.context, NS_PER_EVENT * this.#rules.length)
    for (const rule of this.#rules) tell(rule)
  }

  #type(name: string): Definition | null {
    return this.schema.Types.get(name) ?? null
  }

  #operation(operation: OperationDefinition): void {
    this.operation = operation
    for (const variable of operation.VariableDefinitions) {
      variable.Definition = this.#type(typeName(variable.Type))
      this.#tell((rule) => rule.variable?.(variable))
      if (variable.DefaultValue === null) continue
      variable.DefaultValue.ExpectedType = variable.Type
      variable.DefaultValue.Definition = variable.Definition
    }
    for (const { DefaultValue, Definition, Directives } of operation.VariableDefinitions) {
      if (DefaultValue !== null) this.#value(DefaultValue)
      this.#directives(Definition, Directives, 'VARIABLE_DEFINITION')
    }
    const root = rootType(this.schema, operation.Operation)
    this.#directives(root, operation.Directives, operation.Operation.toUpperCase() || 'QUERY')
    this.#selections(root, operation.SelectionSet)
    this.#tell((rule) => rule.operation?.(operation))
    this.operation = null
  }

  #fragment(fragment: FragmentDefinition): void {
    fragment.Definition = this.#type(fragment.TypeCondition)
    this.#directives(fragment.Definition, fragment.Directives, 'FRAGMENT_DEFINITION')
    this.#selections(fragment.Definition, fragment.SelectionSet)
    this.#tell((rule) => rule.fragment?.(fragment))
  }

  #directives(parent: Definition | null, directives: readonly Directive[], location: string): void {
    for (const directive of directives) {
      const definition = this.schema.Directives.get(directive.Name) ?? null
      directive.Definition = definition
      directive.ParentDefinition = parent
      directive.Location = location
      this.#arguments(definition?.Arguments, directive.Arguments)
      this.#tell((rule) => rule.directive?.(directive))
    }
    this.#tell((rule) => rule.directives?.(directives))
  }

  #arguments(definitions: readonly ArgumentDefinition[] = [], given: readonly Argument[]): void {
    for (const { Name, Value } of given) {
      const definition = named(definitions, Name, this.context)
      if (definition !== undefined) this.#expect(Value, definition)
      this.#value(Value)
    }
  }

  #expect(value: Value, { Type, DefaultValue }: ArgumentDefinition | FieldDefinition): void {
    value.ExpectedType = Type
    value.ExpectedTypeHasDefault = DefaultValue !== null && DefaultValue.Kind !== VALUE_KIND.null
    value.Definition = this.#type(typeName(Type))
  }

  #value(value: Value): void {
    if (value.Kind === VALUE_KIND.variable && this.operation !== null) this.#variable(value, this.operation)
    if (value.Kind === VALUE_KIND.object) this.#inputFields(value)
    if (value.Kind === VALUE_KIND.list) this.#listElements(value)
    this.#tell((rule) => rule.value?.(value))
  }

  #variable(value: Value, { VariableDefinitions }: OperationDefinition): void {
    spend(this.context, VariableDefinitions.length * NS_PER_EVENT)
    value.VariableDefinition = VariableDefinitions.find(({ Variable }) => Variable === value.Raw) ?? null
    if (value.VariableDefinition !== null) value.VariableDefinition.Used = true
  }

  #inputFields({ Definition, Children }: Value): void {
    for (const { Name, Value } of Children) {
      const field = Definition === null ? undefined : named(Definition.Fields, Name, this.context)
      if (field !== undefined) this.#expect(Value, field)
      this.#value(Value)
    }
  }

  #listElements({ Definition, ExpectedType, Children }: Value): void {
    const element = ExpectedType?.Elem ?? null
    for (const { Value } of Children) {
      if (element !== null) {
        Value.ExpectedType = element
        Value.Definition = Definition
      }
      this.#value(Value)
    }
  }

  #selections(parent: Definition | null, selections: readonly Selection[]): void {
    this.#descent.into(() => {
      for (const selection of selections) {
        selection.ObjectDefinition = parent
        if (isField(selection)) this.#field(parent, selection)
        else if (isInlineFragment(selection)) this.#inlineFragment(parent, selection)
        else this.#spread(selection)
      }
    })
  }

  #field(parent: Definition | null, field: Field): void {
    const definition = this.#fieldDefinition(parent, field.Name)
    field.Definition = definition
    const type = definition === null ? null : this.#type(typeName(definition.Type))
    this.#arguments(definition?.Arguments, field.Arguments)
    this.#directives(type, field.Directives, 'FIELD')
    this.#selections(type, field.SelectionSet)
    this.#tell((rule) => rule.field?.(field))
  }

  #fieldDefinition(parent: Definition | null, name: string): FieldDefinition | null {
    if (name === '__typename') return TYPENAME
    return parent === null ? null : (named(parent.Fields, name, this.context) ?? null)
  }

  #inlineFragment(parent: Definition | null, fragment: InlineFragment): void {
    const type = fragment.TypeCondition === '' ? parent : this.#type(fragment.TypeCondition)
    this.#directives(type, fragment.Directives, 'INLINE_FRAGMENT')
    this.#selections(type, fragment.SelectionSet)
    this.#tell((rule) => rule.inlineFragment?.(fragment))
  }

  #spread(spread: FragmentSpread): void {
    const definition = named(this.document.Fragments, spread.Name, this.context)
    spread.Definition = definition ?? null
    const type = definition === undefined ? null : this.#type(definition.TypeCondition)
    this.#directives(type, spread.Directives, 'FRAGMENT_SPREAD')
    if (definition !== undefined && !this.#walked.has(definition.Name)) {
      this.#walked.add(definition.Name)
      this.#directives(type, definition.Directives, 'FRAGMENT_DEFINITION')
      this.#selections(type, definition.SelectionSet)
    }
    this.#tell((rule) => rule.fragmentSpread?.(spread))
  }
}

/** The type at the root of an operation; null where the schema has none. An operation without a name for its kind is a query. */
export function rootType(schema: Schema, operation: string): Definition | null {
  switch (operation) {
    case '':
    case 'query':
      return schema.Query ?? null
    case 'mutation':
      return schema.Mutation ?? null
    case 'subscription':
      return schema.Subscription ?? null
    default:
      return null
  }
}
