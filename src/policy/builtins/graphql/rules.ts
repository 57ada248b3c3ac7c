/**
 * The rules a query has to keep, by their names in gqlparser (validator/rules/). Only whether all hold is asked, so the first
 * one that is broken ends it. What differs from the specification, such as when a fragment counts as used, is gqlparser's.
 */
import type { BuiltinContext } from '../budget.ts'
import { spend } from '../budget.ts'
import type {
  Argument,
  ArgumentDefinition,
  Definition,
  FragmentDefinition,
  FragmentSpread,
  QueryDocument,
  Selection,
} from './document.ts'
import { isField, isInlineFragment, VALUE_KIND } from './document.ts'
import {
  areUnique,
  Descent,
  ensure,
  isCompositeType,
  isInputType,
  isLeafType,
  named,
  typeName,
} from './lookup.ts'
import { overlappingFieldsCanBeMerged } from './overlapping-fields.ts'
import { valuesOfCorrectType, variablesInAllowedPosition } from './value-rules.ts'
import type { Rule, Walk } from './walk.ts'
import { rootType } from './walk.ts'

const NS_PER_PAIR = 10

/** Lists of types that an introspection may go through before it is refused. */
const MAX_INTROSPECTED_LISTS = 3
const INTROSPECTED_LISTS = ['fields', 'interfaces', 'possibleTypes', 'inputFields']

/** All rules but {@link refuseFragmentCycles}, for one walk. */
export function createRules(walk: Walk): readonly Rule[] {
  return RULES.map((create) => create(walk))
}

const RULES: readonly ((walk: Walk) => Rule)[] = [
  fieldsOnCorrectType,
  fragmentsOnCompositeTypes,
  knownArgumentNames,
  knownDirectives,
  knownFragmentNames,
  knownRootType,
  knownTypeNames,
  loneAnonymousOperation,
  maxIntrospectionDepth,
  noUndefinedVariables,
  noUnusedFragments,
  noUnusedVariables,
  overlappingFieldsCanBeMerged,
  possibleFragmentSpreads,
  providedRequiredArguments,
  scalarLeafs,
  singleFieldSubscriptions,
  uniqueArgumentNames,
  uniqueDirectivesPerLocation,
  uniqueFragmentNames,
  uniqueInputFieldNames,
  uniqueOperationNames,
  uniqueVariableNames,
  valuesOfCorrectType,
  variablesAreInputTypes,
  variablesInAllowedPosition,
]

function fieldsOnCorrectType(): Rule {
  return {
    field: ({ Definition, ObjectDefinition }) =>
      ensure(ObjectDefinition === null || Definition !== null, 'a field that its type does not have'),
  }
}

function fragmentsOnCompositeTypes({ schema }: Walk): Rule {
  const check = (condition: string): void => {
    const type = schema.Types.get(condition)
    ensure(type === undefined || isCompositeType(type), 'a fragment on a type without fields')
  }
  return {
    inlineFragment: ({ TypeCondition }) => check(TypeCondition),
    fragment: ({ TypeCondition }) => check(TypeCondition),
  }
}

function knownArgumentNames({ context }: Walk): Rule {
  const check = (given: readonly Argument[], known: readonly ArgumentDefinition[]): void => {
    for (const { Name } of given) {
      ensure(named(known, Name, context) !== undefined, 'an argument that is not defined')
    }
  }
  return {
    field: ({ Definition, ObjectDefinition, Arguments }) => {
      if (Definition !== null && ObjectDefinition !== null) check(Arguments, Definition.Arguments)
    },
    directive: ({ Definition, Arguments }) => {
      if (Definition !== null) check(Arguments, Definition.Arguments)
    },
  }
}

function knownDirectives(): Rule {
  return {
    directive: ({ Definition, Location }) =>
      ensure(Definition?.Locations.includes(Location) === true, 'a directive that cannot be there'),
  }
}

function knownFragmentNames(): Rule {
  return { fragmentSpread: ({ Definition }) => ensure(Definition !== null, 'a fragment that is not defined') }
}

function knownRootType({ schema }: Walk): Rule {
  return {
    operation: ({ Operation }) =>
      ensure(rootType(schema, Operation) !== null, 'an operation that the schema does not have'),
  }
}

function knownTypeNames({ schema }: Walk): Rule {
  const check = (name: string): void => ensure(schema.Types.has(name), 'a type that is not defined')
  return {
    variable: ({ Type }) => check(typeName(Type)),
    inlineFragment: ({ TypeCondition }) => {
      if (TypeCondition !== '') check(TypeCondition)
    },
    fragment: ({ TypeCondition }) => check(TypeCondition),
  }
}

function loneAnonymousOperation({ document }: Walk): Rule {
  return {
    operation: ({ Name }) =>
      ensure(Name !== '' || document.Operations.length <= 1, 'an anonymous operation beside others'),
  }
}

function maxIntrospectionDepth({ context }: Walk): Rule {
  const descent = new Descent(context)
  const within = new Set<string>()
  const visitAll = (selections: readonly Selection[], lists: number): void => {
    for (const selection of selections) descent.into(() => visit(selection, lists))
  }
  const visit = (selection: Selection, lists: number): void => {
    if (isField(selection)) {
      const inLists = INTROSPECTED_LISTS.includes(selection.Name) ? lists + 1 : lists
      ensure(inLists < MAX_INTROSPECTED_LISTS, 'an introspection that is too deep')
      visitAll(selection.SelectionSet, inLists)
    } else if (isInlineFragment(selection)) {
      visitAll(selection.SelectionSet, lists)
    } else if (selection.Definition !== null && !within.has(selection.Name)) {
      within.add(selection.Name)
      visitAll(selection.Definition.SelectionSet, lists)
      within.delete(selection.Name)
    }
  }
  return {
    field: (field) => {
      if (field.Name === '__schema' || field.Name === '__type') visit(field, 0)
    },
  }
}

/**
 * The rule NoFragmentCycles. It comes before the walk: on some cycles gqlparser compares fields until its stack is full, which ends OPA.
 *
 * @throws {BuiltinError} when a fragment is within itself
 */
export function refuseFragmentCycles({ Fragments }: QueryDocument, context: BuiltinContext): void {
  const descent = new Descent(context)
  const visited = new Set<string>()
  const path = new Set<string>()
  const visit = ({ Name, SelectionSet }: FragmentDefinition): void => {
    if (visited.has(Name)) return
    visited.add(Name)
    path.add(Name)
    for (const spread of spreadsIn(SelectionSet)) {
      ensure(!path.has(spread.Name), 'a fragment within itself')
      const fragment = named(Fragments, spread.Name, context)
      if (fragment !== undefined) descent.into(() => visit(fragment))
    }
    path.delete(Name)
  }
  for (const fragment of Fragments) visit(fragment)
}

function spreadsIn(selections: readonly Selection[]): FragmentSpread[] {
  return selections.flatMap((selection) =>
    isField(selection) || isInlineFragment(selection) ? spreadsIn(selection.SelectionSet) : [selection],
  )
}

function noUndefinedVariables(walk: Walk): Rule {
  return {
    value: ({ Kind, VariableDefinition }) =>
      ensure(
        walk.operation === null || Kind !== VALUE_KIND.variable || VariableDefinition !== null,
        'a variable that is not defined',
      ),
  }
}

/** A fragment is used when an operation spreads it, or the first fragment of the document does. */
function noUnusedFragments(): Rule {
  const used = new Set<string>()
  let closed = false
  return {
    fragmentSpread: ({ Name }) => {
      if (!closed) used.add(Name)
    },
    fragment: ({ Name }) => {
      closed = true
      ensure(used.has(Name), 'a fragment that is never used')
    },
  }
}

function noUnusedVariables(): Rule {
  return {
    operation: ({ VariableDefinitions }) =>
      ensure(
        VariableDefinitions.every(({ Used }) => Used),
        'a variable that is never used',
      ),
  }
}

function possibleFragmentSpreads({ schema, context }: Walk): Rule {
  const check = (parent: Definition | null, condition: string): void => {
    const type = schema.Types.get(condition)
    if (parent === null || !isCompositeType(parent) || type === undefined || !isCompositeType(type)) return
    const parents = parent.Kind === 'OBJECT' ? [parent] : (schema.PossibleTypes.get(parent.Name) ?? [])
    const possible = schema.PossibleTypes.get(condition) ?? []
    spend(context, NS_PER_PAIR * (parents.length + possible.length))
    const names = new Set(parents.map(({ Name }) => Name))
    ensure(
      possible.some(({ Name }) => names.has(Name)),
      'a fragment that can never apply',
    )
  }
  return {
    inlineFragment: ({ ObjectDefinition, TypeCondition }) => check(ObjectDefinition, TypeCondition),
    fragmentSpread: ({ ObjectDefinition, Definition }) => {
      if (Definition !== null) check(ObjectDefinition, Definition.TypeCondition)
    },
  }
}

function providedRequiredArguments({ context }: Walk): Rule {
  const check = (known: readonly ArgumentDefinition[] = [], given: readonly Argument[]): void => {
    for (const { Name, Type, DefaultValue } of known) {
      const optional = !Type.NonNull || DefaultValue !== null
      ensure(optional || named(given, Name, context) !== undefined, 'a required argument missing')
    }
  }
  return {
    field: ({ Definition, Arguments }) => check(Definition?.Arguments, Arguments),
    directive: ({ Definition, Arguments }) => check(Definition?.Arguments, Arguments),
  }
}

function scalarLeafs({ schema }: Walk): Rule {
  return {
    field: ({ Definition, SelectionSet }) => {
      const type = Definition === null ? undefined : schema.Types.get(typeName(Definition.Type))
      if (type === undefined) return
      ensure(isLeafType(type) === (SelectionSet.length === 0), 'a selection missing or too many')
    },
  }
}

function singleFieldSubscriptions({ schema, context }: Walk): Rule {
  return {
    operation: ({ Operation, SelectionSet }) => {
      if (schema.Subscription === undefined || Operation !== 'subscription') return
      const names = topFieldNames(SelectionSet, new Descent(context))
      ensure(names.size <= 1, 'a subscription to more than one field')
      ensure(![...names].some((name) => name.startsWith('__')), 'a subscription to introspection')
    },
  }
}

/** Names of the fields at the top, through fragments. */
function topFieldNames(selections: readonly Selection[], descent: Descent): ReadonlySet<string> {
  const names = new Set<string>()
  const within = new Set<string>()
  const visit = (set: readonly Selection[]): void => {
    for (const selection of set) {
      if (isField(selection)) names.add(selection.Name)
      else if (isInlineFragment(selection)) descent.into(() => visit(selection.SelectionSet))
      else {
        const { Definition } = selection
        if (Definition === null || within.has(Definition.Name)) continue
        within.add(Definition.Name)
        descent.into(() => visit(Definition.SelectionSet))
      }
    }
  }
  visit(selections)
  return names
}

function uniqueArgumentNames(): Rule {
  const check = ({ Arguments }: { readonly Arguments: readonly Argument[] }): void =>
    ensure(areUnique(Arguments.map(({ Name }) => Name)), 'an argument given twice')
  return { field: check, directive: check }
}

function uniqueDirectivesPerLocation(): Rule {
  return {
    directives: (directives) => {
      const single = directives.filter(({ Definition }) => Definition?.IsRepeatable !== true)
      ensure(areUnique(single.map(({ Name }) => Name)), 'a directive used twice')
    },
  }
}

function uniqueFragmentNames(): Rule {
  return { fragment: unseen('a fragment defined twice') }
}

function uniqueInputFieldNames(): Rule {
  return {
    value: ({ Kind, Children }) =>
      ensure(
        Kind !== VALUE_KIND.object || areUnique(Children.map(({ Name }) => Name)),
        'a field given twice',
      ),
  }
}

function uniqueOperationNames(): Rule {
  return { operation: unseen('an operation defined twice') }
}

function unseen(complaint: string): (node: { readonly Name: string }) => void {
  const seen = new Set<string>()
  return ({ Name }) => {
    ensure(!seen.has(Name), complaint)
    seen.add(Name)
  }
}

function uniqueVariableNames(): Rule {
  return {
    operation: ({ VariableDefinitions }) =>
      ensure(areUnique(VariableDefinitions.map(({ Variable }) => Variable)), 'a variable defined twice'),
  }
}

function variablesAreInputTypes(): Rule {
  return {
    operation: ({ VariableDefinitions }) => {
      for (const { Definition } of VariableDefinitions) {
        ensure(Definition === null || isInputType(Definition), 'a variable of a type that is no input')
      }
    },
  }
}
