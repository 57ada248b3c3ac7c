/** GraphQL schemas that queries can be validated against: gqlparser's validator/schema.go. */
import type { BuiltinContext } from '../budget.ts'
import { spend } from '../budget.ts'
import type {
  ArgumentDefinition,
  Definition,
  Directive,
  DirectiveDefinition,
  FieldDefinition,
  SchemaDefinition,
  SchemaDocument,
  Type,
} from './document.ts'
import { VALUE_KIND } from './document.ts'
import { areUnique, Descent, ensure, isCompatible, isInputType, named, typeName } from './lookup.ts'
import { parseSchema } from './parse-schema.ts'
import { PRELUDE } from './prelude.ts'

const NS_PER_DEFINITION = 1_500
const NS_PER_NAME = 50

/** A valid schema. The types that are behind `Query`, `Mutation` and `Subscription` are among `Types`. */
export interface Schema {
  readonly Query: Definition | undefined
  readonly Mutation: Definition | undefined
  readonly Subscription: Definition | undefined
  readonly Types: ReadonlyMap<string, Definition>
  readonly Directives: ReadonlyMap<string, DirectiveDefinition>
  /** Abstract type -> what a value of it may be; an object type -> itself. */
  readonly PossibleTypes: ReadonlyMap<string, readonly Definition[]>
}

/** What every schema has, read once for all. */
let prelude: SchemaDocument | undefined
const UNCHARGED: BuiltinContext = { nowNs: 0n, charge: () => undefined, cache: new Map() }

/** Directives that a schema may define although it has them. */
const REDEFINABLE = ['include', 'skip', 'deprecated', 'specifiedBy', 'defer', 'oneOf']
const OUTPUT_KINDS = ['SCALAR', 'OBJECT', 'INTERFACE', 'UNION', 'ENUM']
const INPUT_KINDS = ['SCALAR', 'ENUM', 'INPUT_OBJECT']
const NO_ENUM_VALUES = ['true', 'false', 'null']

/**
 * The schema that a document describes, together with what every schema has. The document stays as it is.
 *
 * @throws {BuiltinError} where the document is no valid schema
 */
export function toSchema(document: SchemaDocument, context: BuiltinContext): Schema {
  prelude ??= parseSchema(PRELUDE, UNCHARGED)
  const builtIn = prelude.Definitions.map((definition) => ({ ...definition, BuiltIn: true }))
  const types = typesOf([...builtIn, ...document.Definitions], document.Extensions, context)
  const directives = directivesOf([...prelude.Directives, ...document.Directives])
  ensure(document.Schema.length <= 1, 'multiple schema definitions')
  const roots = rootsOf([...document.Schema, ...document.SchemaExtension], types)
  const schema = { Types: types, Directives: directives, PossibleTypes: possibleTypesOf(types) }
  const check = new SchemaCheck(schema, context)
  for (const { Directives } of [...document.Schema, ...document.SchemaExtension]) {
    check.directives(Directives, 'SCHEMA')
  }
  for (const definition of types.values()) check.definition(definition)
  check.inputCycles()
  for (const directive of directives.values()) check.directiveDefinition(directive)
  if (document.Schema.length === 0) {
    for (const root of ['Query', 'Mutation', 'Subscription']) {
      const type = types.get(root)
      if (type !== undefined && !roots.has(root.toLowerCase())) roots.set(root.toLowerCase(), type)
    }
  }
  return withIntrospection(schema, roots)
}

/** All types by name, extensions merged into what they extend. */
function typesOf(
  definitions: readonly Definition[],
  extensions: readonly Definition[],
  context: BuiltinContext,
): Map<string, Definition> {
  const types = new Map<string, Definition>()
  for (const definition of definitions) {
    spend(context, NS_PER_DEFINITION)
    ensure(!types.has(definition.Name), 'a type defined twice')
    types.set(definition.Name, definition)
  }
  for (const extension of extensions) {
    const { Kind, Name } = extension
    const base = types.get(Name) ?? { ...extension, ...NOTHING }
    ensure(base.Kind === Kind, 'an extension of another kind')
    spend(context, NS_PER_DEFINITION + 5 * (base.Fields.length + base.EnumValues.length + base.Types.length))
    types.set(Name, {
      ...base,
      Directives: [...base.Directives, ...extension.Directives],
      Interfaces: [...base.Interfaces, ...extension.Interfaces],
      Fields: [...base.Fields, ...extension.Fields],
      Types: [...base.Types, ...extension.Types],
      EnumValues: [...base.EnumValues, ...extension.EnumValues],
    })
  }
  return types
}

/** What a type that is only ever extended begins with. */
const NOTHING = { BuiltIn: false, Directives: [], Interfaces: [], Fields: [], Types: [], EnumValues: [] }

function directivesOf(definitions: readonly DirectiveDefinition[]): Map<string, DirectiveDefinition> {
  const directives = new Map<string, DirectiveDefinition>()
  for (const definition of definitions) {
    const { Name } = definition
    ensure(!directives.has(Name) || REDEFINABLE.includes(Name), 'a directive defined twice')
    directives.set(Name, definition)
  }
  return directives
}

/** Operation -> type, as far as schema definitions name them; the last one counts. */
function rootsOf(
  definitions: readonly SchemaDefinition[],
  types: ReadonlyMap<string, Definition>,
): Map<string, Definition> {
  const roots = new Map<string, Definition>()
  for (const { Operation, Type } of definitions.flatMap(({ OperationTypes }) => OperationTypes)) {
    const type = types.get(Type)
    ensure(type !== undefined, 'a root type that does not exist')
    roots.set(Operation, type)
  }
  return roots
}

function possibleTypesOf(types: ReadonlyMap<string, Definition>): Map<string, Definition[]> {
  const possible = new Map<string, Definition[]>()
  const add = (name: string, definition: Definition | undefined): void => {
    const known = possible.get(name) ?? []
    if (definition !== undefined) known.push(definition)
    possible.set(name, known)
  }
  for (const definition of types.values()) {
    const { Kind, Name } = definition
    if (Kind === 'UNION') for (const member of definition.Types) add(Name, types.get(member))
    if (Kind !== 'OBJECT' && Kind !== 'INPUT_OBJECT' && Kind !== 'INTERFACE') continue
    for (const implemented of definition.Interfaces) add(implemented, definition)
    if (Kind !== 'INTERFACE') add(Name, definition)
  }
  return possible
}

/** The schema with `__schema` and `__type` among the fields of its query type. */
function withIntrospection(
  schema: Pick<Schema, 'Types' | 'Directives' | 'PossibleTypes'>,
  roots: ReadonlyMap<string, Definition>,
): Schema {
  const types = new Map(schema.Types)
  const query = roots.get('query')
  if (query !== undefined) {
    types.set(query.Name, { ...query, Fields: [...query.Fields, ...INTROSPECTION_FIELDS] })
  }
  const root = (operation: string): Definition | undefined => types.get(roots.get(operation)?.Name ?? '')
  return {
    ...schema,
    Types: types,
    Query: root('query'),
    Mutation: root('mutation'),
    Subscription: root('subscription'),
  }
}

const UNDESCRIBED = {
  Description: '',
  BeforeDescriptionComment: null,
  AfterDescriptionComment: null,
  DefaultValue: null,
  Directives: [],
}

const INTROSPECTION_FIELDS: readonly FieldDefinition[] = [
  {
    ...UNDESCRIBED,
    Name: '__schema',
    Arguments: [],
    Type: { NamedType: '__Schema', Elem: null, NonNull: true },
  },
  {
    ...UNDESCRIBED,
    Name: '__type',
    Arguments: [{ ...UNDESCRIBED, Name: 'name', Type: { NamedType: 'String', Elem: null, NonNull: true } }],
    Type: { NamedType: '__Type', Elem: null, NonNull: false },
  },
]

/** The rules for schemas; the first one that is broken ends it. */
class SchemaCheck {
  readonly #schema: Pick<Schema, 'Types' | 'Directives' | 'PossibleTypes'>
  readonly #context: BuiltinContext

  constructor(schema: Pick<Schema, 'Types' | 'Directives' | 'PossibleTypes'>, context: BuiltinContext) {
    this.#schema = schema
    this.#context = context
  }

  definition(definition: Definition): void {
    spend(this.#context, NS_PER_DEFINITION)
    const { Kind, Name, Fields, Types, EnumValues } = definition
    const location = Kind === 'INPUT_OBJECT' ? 'INPUT_FIELD_DEFINITION' : 'FIELD_DEFINITION'
    for (const field of Fields) this.#field(field, location)
    for (const member of Types) {
      ensure(this.#schema.Types.get(member)?.Kind === 'OBJECT', 'a member of a union that is no object type')
    }
    const interfaces = new Set(definition.Interfaces)
    for (const implemented of definition.Interfaces) this.#implementation(definition, implemented, interfaces)
    this.#kind(definition)
    ensure(areUnique(Fields.map((field) => field.Name)), 'a field defined twice')
    ensure(areUnique(EnumValues.map((value) => value.Name)), 'an enum value defined twice')
    ensure(areUnique(Types), 'a union with a type twice')
    if (!definition.BuiltIn) ensureNotReserved(Name)
    // Directives of extensions stand at places of their own, so one may be there more than once.
    this.directives(definition.Directives, Kind, { repeated: true })
  }

  #field(field: FieldDefinition, location: string): void {
    spend(this.#context, NS_PER_DEFINITION)
    ensureNotReserved(field.Name)
    this.#type(field.Type)
    this.#arguments(field.Arguments)
    this.directives(field.Directives, location)
  }

  #type(type: Type): Definition {
    const definition = this.#schema.Types.get(typeName(type))
    ensure(definition !== undefined, 'a type that is not defined')
    return definition
  }

  /** What each kind has to have. */
  #kind({ Kind, Fields, EnumValues }: Definition): void {
    const kinds = Kind === 'INPUT_OBJECT' ? INPUT_KINDS : OUTPUT_KINDS
    switch (Kind) {
      case 'OBJECT':
      case 'INTERFACE':
      case 'INPUT_OBJECT':
        ensure(Fields.length > 0, 'a type without fields')
        for (const { Type } of Fields) {
          ensure(kinds.includes(this.#type(Type).Kind), 'a field of a type that cannot be there')
        }
        return
      case 'ENUM':
        ensure(EnumValues.length > 0, 'an enum without values')
        for (const { Name, Directives } of EnumValues) {
          ensure(!NO_ENUM_VALUES.includes(Name), 'an enum value that is a literal of another kind')
          this.directives(Directives, 'ENUM_VALUE')
        }
    }
  }

  directiveDefinition(definition: DirectiveDefinition): void {
    ensureNotReserved(definition.Name)
    this.#arguments(definition.Arguments, definition.Name)
  }

  #arguments(parameters: readonly ArgumentDefinition[], within?: string): void {
    for (const { Name, Type, Directives } of parameters) {
      spend(this.#context, NS_PER_DEFINITION)
      ensureNotReserved(Name)
      ensure(isInputType(this.#type(Type)), 'an argument of a type that is no input')
      this.directives(Directives, 'ARGUMENT_DEFINITION', within === undefined ? {} : { within })
    }
  }

  /** Uses of directives at one place. `within` is the directive whose own definition they are part of. */
  directives(
    directives: readonly Directive[],
    location: string,
    { within, repeated = false }: { readonly within?: string; readonly repeated?: boolean } = {},
  ): void {
    const seen = new Set<string>()
    for (const directive of directives) {
      const { Name } = directive
      ensureNotReserved(Name)
      ensure(Name !== within, 'a directive that refers to itself')
      const definition = this.#schema.Directives.get(Name)
      ensure(definition !== undefined, 'a directive that is not defined')
      ensure(repeated || definition.IsRepeatable || !seen.has(Name), 'a directive used twice')
      seen.add(Name)
      ensure(definition.Locations.includes(location), 'a directive at a place where it cannot be')
      this.#directiveArguments(directive, definition)
    }
  }

  #directiveArguments(directive: Directive, definition: DirectiveDefinition): void {
    for (const { Name } of directive.Arguments) {
      ensure(named(definition.Arguments, Name, this.#context) !== undefined, 'an argument not defined')
    }
    for (const { Name, Type, DefaultValue } of definition.Arguments) {
      if (!Type.NonNull || DefaultValue !== null) continue
      const argument = named(directive.Arguments, Name, this.#context)
      ensure(argument !== undefined && argument.Value.Kind !== VALUE_KIND.null, 'a required argument missing')
    }
  }

  #implementation(definition: Definition, name: string, interfaces: ReadonlySet<string>): void {
    const implemented = this.#schema.Types.get(name)
    ensure(implemented?.Kind === 'INTERFACE', 'an interface that is none')
    for (const required of implemented.Fields) {
      const field = named(definition.Fields, required.Name, this.#context)
      ensure(field !== undefined, 'a field of an interface missing')
      ensure(this.#isCovariant(required.Type, field.Type), 'a field of an interface with another type')
      this.#implementedArguments(required, field)
    }
    spend(this.#context, NS_PER_NAME * implemented.Interfaces.length)
    for (const ancestor of implemented.Interfaces) {
      ensure(interfaces.has(ancestor), 'an interface of an interface missing')
    }
  }

  #implementedArguments(required: FieldDefinition, field: FieldDefinition): void {
    for (const { Name, Type } of required.Arguments) {
      const argument = named(field.Arguments, Name, this.#context)
      ensure(
        argument !== undefined && isCompatible(Type, argument.Type),
        'an argument of an interface missing',
      )
    }
    for (const { Name, Type, DefaultValue } of field.Arguments) {
      const optional = !Type.NonNull || DefaultValue !== null
      ensure(
        optional || named(required.Arguments, Name, this.#context) !== undefined,
        'a required argument that the interface does not have',
      )
    }
  }

  #isCovariant(required: Type, actual: Type): boolean {
    if (required.NonNull && !actual.NonNull) return false
    if (required.NamedType === '' && required.Elem !== null) {
      return actual.Elem !== null && this.#isCovariant(required.Elem, actual.Elem)
    }
    if (required.NamedType === actual.NamedType) return true
    const possible = this.#schema.PossibleTypes.get(required.NamedType) ?? []
    return named(possible, actual.NamedType, this.#context) !== undefined
  }

  /** No input object may need itself: such a value could never be written. */
  inputCycles(): void {
    const descent = new Descent(this.#context)
    const visited = new Set<string>()
    const path = new Set<string>()
    const visit = ({ Name, Fields }: Definition): void => {
      if (visited.has(Name)) return
      visited.add(Name)
      path.add(Name)
      for (const { Type } of Fields) {
        const needed = Type.NonNull ? this.#schema.Types.get(Type.NamedType) : undefined
        if (needed?.Kind !== 'INPUT_OBJECT') continue
        ensure(!path.has(needed.Name), 'an input object that needs itself')
        descent.into(() => visit(needed))
      }
      path.delete(Name)
    }
    for (const definition of this.#schema.Types.values())
      if (definition.Kind === 'INPUT_OBJECT') visit(definition)
  }
}

/** Names that begin with two underscores are GraphQL's own. */
function ensureNotReserved(name: string): void {
  ensure(!name.startsWith('__'), 'a reserved name')
}
