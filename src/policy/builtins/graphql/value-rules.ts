/** The rules about values: gqlparser's validator/rules/values_of_correct_type.go and variables_in_allowed_position.go. */
import type { BuiltinContext } from '../budget.ts'
import { spend } from '../budget.ts'
import type { Definition, Value } from './document.ts'
import { VALUE_KIND } from './document.ts'
import { Descent, ensure, isCompatible, named } from './lookup.ts'
import type { Rule, Walk } from './walk.ts'

const NS_PER_VALUE = 100

const BUILT_IN_SCALARS = ['Int', 'Float', 'String', 'Boolean', 'ID']
/** Kind of literal -> scalars it can be. */
const SCALARS_OF_KIND: ReadonlyMap<number, readonly string[]> = new Map([
  [VALUE_KIND.int, ['Int', 'Float', 'ID']],
  [VALUE_KIND.float, ['Float']],
  [VALUE_KIND.string, ['String', 'ID']],
  [VALUE_KIND.block, ['String', 'ID']],
  [VALUE_KIND.boolean, ['Boolean']],
])
const INT64_MAX = 9_223_372_036_854_775_807n

/** Whether literals are what their places ask for. Scalars of the schema's own take anything. */
export function valuesOfCorrectType({ context }: Walk): Rule {
  const descent = new Descent(context)
  return {
    value: (value) => {
      const { Definition, ExpectedType, Kind } = value
      if (Definition === null || ExpectedType === null) return
      ensure(Kind !== VALUE_KIND.null || !ExpectedType.NonNull, 'null where it cannot be')
      if (Definition.Kind === 'SCALAR' && !BUILT_IN_SCALARS.includes(Definition.Name)) return
      ensure(isReadable(value, descent), 'a literal out of range')
      switch (Kind) {
        case VALUE_KIND.variable:
        case VALUE_KIND.null:
          return
        case VALUE_KIND.list:
          return ensure(ExpectedType.Elem !== null, 'a list where it cannot be')
        case VALUE_KIND.object:
          return checkInputObject(value, Definition, context)
        case VALUE_KIND.enum:
          ensure(Definition.Kind === 'ENUM', 'an enum value where it cannot be')
          return ensure(
            named(Definition.EnumValues, value.Raw, context) !== undefined,
            'an unknown enum value',
          )
        default: {
          const scalars = SCALARS_OF_KIND.get(Kind) ?? []
          return ensure(scalars.includes(Definition.Name), 'a literal where it cannot be')
        }
      }
    },
  }
}

/** Whether Go can hold the value: integers of 64 bits, finite floats, through lists, objects and defaults. */
function isReadable(value: Value, descent: Descent): boolean {
  const { Kind, Raw } = value
  switch (Kind) {
    case VALUE_KIND.variable: {
      const fallback = value.VariableDefinition?.DefaultValue ?? null
      return fallback === null || descent.into(() => isReadable(fallback, descent))
    }
    case VALUE_KIND.int:
      return isInt64(Raw)
    case VALUE_KIND.float:
      return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(Raw) && Number.isFinite(Number(Raw))
    case VALUE_KIND.boolean:
      return /^(?:1|0|[tTfF]|true|True|TRUE|false|False|FALSE)$/.test(Raw)
    case VALUE_KIND.list:
    case VALUE_KIND.object:
      return value.Children.every(({ Value }) => descent.into(() => isReadable(Value, descent)))
    default:
      return Kind >= VALUE_KIND.variable && Kind <= VALUE_KIND.object
  }
}

function isInt64(text: string): boolean {
  if (!/^[+-]?\d{1,4096}$/.test(text)) return false
  const integer = BigInt(text.replace('+', ''))
  return integer <= INT64_MAX && integer >= -INT64_MAX - 1n
}

function checkInputObject(value: Value, definition: Definition, context: BuiltinContext): void {
  const { Children } = value
  for (const { Name, Type, DefaultValue } of definition.Fields) {
    const optional = !Type.NonNull || DefaultValue !== null
    ensure(optional || named(Children, Name, context) !== undefined, 'a required field missing')
  }
  if (isOneOf(definition)) {
    const [only, ...others] = Children
    ensure(only !== undefined && others.length === 0, 'not exactly one field')
    ensure(only.Value.Kind !== VALUE_KIND.null, 'null as the one field')
  }
  for (const { Name } of Children) {
    ensure(named(definition.Fields, Name, context) !== undefined, 'an unknown field')
  }
}

function isOneOf({ Directives }: Definition): boolean {
  return Directives.some(({ Name }) => Name === 'oneOf')
}

/** Whether variables have types that their places take. */
export function variablesInAllowedPosition(walk: Walk): Rule {
  return {
    value: (value) => {
      spend(walk.context, NS_PER_VALUE)
      if (value.Kind === VALUE_KIND.variable && walk.operation !== null) checkPosition(value)
      if (value.Kind === VALUE_KIND.object && value.Definition !== null && isOneOf(value.Definition)) {
        ensure(value.Children.every(isRequiredOrNoVariable), 'a nullable variable as the one field')
      }
    },
  }
}

/** A default, of the variable or of its place, stands in for null. */
function checkPosition({ ExpectedType, VariableDefinition, ExpectedTypeHasDefault }: Value): void {
  if (ExpectedType === null || VariableDefinition === null) return
  const { DefaultValue, Type } = VariableDefinition
  const hasDefault =
    ExpectedTypeHasDefault || (DefaultValue !== null && DefaultValue.Kind !== VALUE_KIND.null)
  const expected = hasDefault ? { ...ExpectedType, NonNull: false } : ExpectedType
  ensure(isCompatible(Type, expected), 'a variable of another type than its place')
}

function isRequiredOrNoVariable({ Value: { Kind, VariableDefinition } }: { readonly Value: Value }): boolean {
  return Kind !== VALUE_KIND.variable || VariableDefinition === null || VariableDefinition.Type.NonNull
}
