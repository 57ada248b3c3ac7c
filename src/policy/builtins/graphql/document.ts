/**
 * GraphQL documents as OPA's parser (vektah/gqlparser v2) has them. Members carry the names of its Go structs, because these
 * objects are what policies see; source positions are left out, as OPA leaves them out. Members below "found out by validation"
 * are empty until a query is validated against a schema.
 */

/** Comments in front of a node, each with its `#`. */
export interface CommentGroup {
  readonly List: readonly { readonly Value: string }[]
}

/** `Kind` of a {@link Value}: the numbers of gqlparser's constants. */
export const VALUE_KIND = {
  variable: 0,
  int: 1,
  float: 2,
  string: 3,
  block: 4,
  boolean: 5,
  null: 6,
  enum: 7,
  list: 8,
  object: 9,
} as const

/** A type reference: a name, or a list of `Elem`. */
export interface Type {
  readonly NamedType: string
  readonly Elem: Type | null
  readonly NonNull: boolean
}

/** A value literal or a variable. `Raw` is empty for lists and objects, whose elements are `Children`. */
export interface Value {
  readonly Raw: string
  readonly Children: readonly ChildValue[]
  readonly Kind: number
  readonly Comment: CommentGroup | null
  // Found out by validation.
  Definition: Definition | null
  VariableDefinition: VariableDefinition | null
  ExpectedType: Type | null
  ExpectedTypeHasDefault: boolean
}

/** An element of a list (`Name` is empty) or a field of an input object. */
export interface ChildValue {
  readonly Name: string
  readonly Value: Value
  readonly Comment: CommentGroup | null
}

/** An argument of a field or directive. */
export interface Argument {
  readonly Name: string
  readonly Value: Value
  readonly Comment: CommentGroup | null
}

/** A use of a directive. */
export interface Directive {
  readonly Name: string
  readonly Arguments: readonly Argument[]
  // Found out by validation.
  ParentDefinition: Definition | null
  Definition: DirectiveDefinition | null
  Location: string
}

/** A field of a selection; without an alias `Alias` is the name. */
export interface Field {
  readonly Alias: string
  readonly Name: string
  readonly Arguments: readonly Argument[]
  readonly Directives: readonly Directive[]
  readonly SelectionSet: readonly Selection[]
  readonly Comment: CommentGroup | null
  // Found out by validation.
  Definition: FieldDefinition | null
  ObjectDefinition: Definition | null
}

/** `...Name` */
export interface FragmentSpread {
  readonly Name: string
  readonly Directives: readonly Directive[]
  readonly Comment: CommentGroup | null
  // Found out by validation.
  ObjectDefinition: Definition | null
  Definition: FragmentDefinition | null
}

/** `... on Type { }`; `TypeCondition` is empty where there is none. */
export interface InlineFragment {
  readonly TypeCondition: string
  readonly Directives: readonly Directive[]
  readonly SelectionSet: readonly Selection[]
  readonly Comment: CommentGroup | null
  // Found out by validation.
  ObjectDefinition: Definition | null
}

/** What stands in braces. */
export type Selection = Field | FragmentSpread | InlineFragment

/** Whether a selection is a field. */
export function isField(selection: Selection): selection is Field {
  return 'Alias' in selection
}

/** Whether a selection is an inline fragment. */
export function isInlineFragment(selection: Selection): selection is InlineFragment {
  return 'TypeCondition' in selection
}

/** `$Variable: Type = DefaultValue` of an operation. */
export interface VariableDefinition {
  readonly Variable: string
  readonly Type: Type
  readonly DefaultValue: Value | null
  readonly Directives: readonly Directive[]
  readonly Comment: CommentGroup | null
  // Found out by validation.
  Definition: Definition | null
  Used: boolean
}

/** `fragment Name on TypeCondition { }` */
export interface FragmentDefinition {
  readonly Name: string
  readonly VariableDefinition: readonly VariableDefinition[]
  readonly TypeCondition: string
  readonly Directives: readonly Directive[]
  readonly SelectionSet: readonly Selection[]
  readonly Comment: CommentGroup | null
  // Found out by validation.
  Definition: Definition | null
}

/** A query, mutation or subscription. */
export interface OperationDefinition {
  readonly Operation: string
  readonly Name: string
  readonly VariableDefinitions: readonly VariableDefinition[]
  readonly Directives: readonly Directive[]
  readonly SelectionSet: readonly Selection[]
  readonly Comment: CommentGroup | null
}

/** What a client sends. */
export interface QueryDocument {
  readonly Operations: OperationDefinition[]
  readonly Fragments: FragmentDefinition[]
  readonly Comment: CommentGroup | null
}

/** Comments around the description of a definition. */
interface Described {
  readonly Description: string
  readonly BeforeDescriptionComment: CommentGroup | null
  readonly AfterDescriptionComment: CommentGroup | null
}

/** `KIND` is one of SCALAR, OBJECT, INTERFACE, UNION, ENUM, INPUT_OBJECT; extensions have the same shape. */
export interface Definition extends Described {
  readonly Kind: string
  readonly Name: string
  readonly Directives: readonly Directive[]
  readonly Interfaces: readonly string[]
  readonly Fields: readonly FieldDefinition[]
  readonly Types: readonly string[]
  readonly EnumValues: readonly EnumValueDefinition[]
  readonly BuiltIn: boolean
  readonly EndOfDefinitionComment: CommentGroup | null
}

/** A field of an object, interface or input object. */
export interface FieldDefinition extends Described {
  readonly Name: string
  readonly Arguments: readonly ArgumentDefinition[]
  readonly DefaultValue: Value | null
  readonly Type: Type
  readonly Directives: readonly Directive[]
}

/** An argument that a field or directive takes. */
export interface ArgumentDefinition extends Described {
  readonly Name: string
  readonly DefaultValue: Value | null
  readonly Type: Type
  readonly Directives: readonly Directive[]
}

/** A value of an enum. */
export interface EnumValueDefinition extends Described {
  readonly Name: string
  readonly Directives: readonly Directive[]
}

/** `directive @Name on Locations` */
export interface DirectiveDefinition extends Described {
  readonly Name: string
  readonly Arguments: readonly ArgumentDefinition[]
  readonly Locations: readonly string[]
  readonly IsRepeatable: boolean
}

/** `schema { }` and its extensions. */
export interface SchemaDefinition extends Described {
  readonly Directives: readonly Directive[]
  readonly OperationTypes: readonly OperationTypeDefinition[]
  readonly EndOfDefinitionComment: CommentGroup | null
}

/** `query: Type` in a schema definition. */
export interface OperationTypeDefinition {
  readonly Operation: string
  readonly Type: string
  readonly Comment: CommentGroup | null
}

/** What a schema text holds. */
export interface SchemaDocument {
  readonly Schema: SchemaDefinition[]
  readonly SchemaExtension: SchemaDefinition[]
  readonly Directives: DirectiveDefinition[]
  readonly Definitions: Definition[]
  readonly Extensions: Definition[]
  readonly Comment: CommentGroup | null
}
