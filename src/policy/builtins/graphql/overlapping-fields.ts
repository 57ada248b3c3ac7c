/**
 * Whether fields with one response name can be merged: gqlparser's validator/rules/overlapping_fields_can_be_merged.go, after the
 * algorithm of graphql-js. Within a set of selections every two fields of one name are compared, then what its fragments add,
 * then what the selections of two such fields have in common. Every comparison is charged: there can be very many.
 */
import type { BuiltinContext } from '../budget.ts'
import { spend } from '../budget.ts'
import type { Argument, ChildValue, Field, FragmentSpread, Selection, Type, Value } from './document.ts'
import { isField, isInlineFragment, VALUE_KIND } from './document.ts'
import { Descent, ensure, isLeafType } from './lookup.ts'
import type { Rule, Walk } from './walk.ts'

const NS_PER_SELECTION = 100
const NS_PER_COMPARISON = 150

/** What a set of selections holds, inline fragments opened. */
interface Collected {
  readonly fields: ReadonlyMap<string, readonly Field[]>
  readonly spreads: readonly FragmentSpread[]
}

/** The rule. */
export function overlappingFieldsCanBeMerged(walk: Walk): Rule {
  const merging = new Merging(walk)
  return {
    operation: ({ SelectionSet }) => merging.check(SelectionSet),
    // Fields of a fragment are looked at where an operation spreads it.
    field: ({ SelectionSet }) => {
      if (walk.operation !== null) merging.check(SelectionSet)
    },
    inlineFragment: ({ SelectionSet }) => merging.check(SelectionSet),
    fragment: ({ SelectionSet }) => merging.check(SelectionSet),
  }
}

class Merging {
  readonly #walk: Walk
  readonly #context: BuiltinContext
  readonly #descent: Descent
  readonly #collected = new Map<readonly Selection[], Collected>()
  /** Names of two fragments that have been compared -> whether only as of types that exclude each other. */
  readonly #comparedPairs = new Map<string, boolean>()
  /** Fragments that the fields at hand have been compared with. */
  #compared = new Set<string>()

  constructor(walk: Walk) {
    this.#walk = walk
    this.#context = walk.context
    this.#descent = new Descent(walk.context)
  }

  /** @throws {BuiltinError} when two fields of the set cannot be merged */
  check(selections: readonly Selection[]): void {
    if (selections.length === 0) return
    const { fields, spreads } = this.#collect(selections)
    for (const same of fields.values()) {
      for (const [at, field] of same.entries()) {
        for (const other of same.slice(at + 1)) this.#compareFields(field, other, false)
      }
    }
    this.#compared = new Set()
    for (const [at, spread] of spreads.entries()) {
      this.#compareWithFragment(fields, spread, false)
      for (const other of spreads.slice(at + 1)) this.#compareFragments(spread, other, false)
    }
  }

  #collect(selections: readonly Selection[]): Collected {
    const known = this.#collected.get(selections)
    if (known !== undefined) return known
    const fields = new Map<string, Field[]>()
    const spreads: FragmentSpread[] = []
    const visit = (set: readonly Selection[]): void => {
      spend(this.#context, NS_PER_SELECTION * set.length)
      for (const selection of set) {
        if (isField(selection)) addField(fields, selection)
        else if (isInlineFragment(selection)) visit(selection.SelectionSet)
        else spreads.push(selection)
      }
    }
    visit(selections)
    const collected = { fields, spreads }
    this.#collected.set(selections, collected)
    return collected
  }

  #compareWithFragment(
    fields: Collected['fields'],
    { Name, Definition }: FragmentSpread,
    exclusive: boolean,
  ): void {
    spend(this.#context, NS_PER_COMPARISON)
    if (this.#compared.has(Name)) return
    this.#compared.add(Name)
    if (Definition === null) return
    const fragment = this.#collect(Definition.SelectionSet)
    if (fragment.fields === fields || fragment.fields.size + fields.size === 0) return
    this.#compareSets(fields, fragment.fields, exclusive)
    for (const spread of fragment.spreads) {
      if (spread.Name === Name) continue
      this.#descent.into(() => this.#compareWithFragment(fields, spread, exclusive))
    }
  }

  #compareFragments(a: FragmentSpread, b: FragmentSpread, exclusive: boolean): void {
    spend(this.#context, NS_PER_COMPARISON)
    if (a.Name === b.Name) return
    const pair = a.Name < b.Name ? `${a.Name} ${b.Name}` : `${b.Name} ${a.Name}`
    const compared = this.#comparedPairs.get(pair)
    if (compared === false || (compared === true && exclusive)) return
    this.#comparedPairs.set(pair, exclusive)
    if (a.Definition === null || b.Definition === null) return
    const ofA = this.#collect(a.Definition.SelectionSet)
    const ofB = this.#collect(b.Definition.SelectionSet)
    this.#compareSets(ofA.fields, ofB.fields, exclusive)
    for (const spread of ofB.spreads) this.#descent.into(() => this.#compareFragments(a, spread, exclusive))
    for (const spread of ofA.spreads) this.#descent.into(() => this.#compareFragments(spread, b, exclusive))
  }

  #compareSets(a: Collected['fields'], b: Collected['fields'], exclusive: boolean): void {
    spend(this.#context, NS_PER_SELECTION * a.size)
    for (const [name, fields] of a) {
      const others = b.get(name) ?? []
      for (const field of fields) {
        for (const other of others) this.#compareFields(field, other, exclusive)
      }
    }
  }

  #compareFields(a: Field, b: Field, parentsExclusive: boolean): void {
    spend(this.#context, NS_PER_COMPARISON)
    if (a.ObjectDefinition === null || b.ObjectDefinition === null) return
    const exclusive = parentsExclusive || areExclusive(a, b)
    if (!exclusive) {
      ensure(a.Name === b.Name, 'different fields under one name')
      ensure(this.#sameArguments(a.Arguments, b.Arguments), 'one field with different arguments')
    }
    if (a.Definition !== null && b.Definition !== null) {
      ensure(!this.#typesConflict(a.Definition.Type, b.Definition.Type), 'different types under one name')
    }
    this.#descent.into(() => this.#compareSelections(a.SelectionSet, b.SelectionSet, exclusive))
  }

  #compareSelections(a: readonly Selection[], b: readonly Selection[], exclusive: boolean): void {
    if (a.length + b.length === 0) return
    const ofA = this.#collect(a)
    const ofB = this.#collect(b)
    this.#compareSets(ofA.fields, ofB.fields, exclusive)
    for (const spread of ofB.spreads) {
      this.#compared = new Set()
      this.#compareWithFragment(ofA.fields, spread, exclusive)
    }
    for (const spread of ofA.spreads) {
      this.#compared = new Set()
      this.#compareWithFragment(ofB.fields, spread, exclusive)
    }
    for (const spread of ofA.spreads) {
      for (const other of ofB.spreads) this.#compareFragments(spread, other, exclusive)
    }
  }

  #sameArguments(a: readonly Argument[], b: readonly Argument[]): boolean {
    spend(this.#context, NS_PER_SELECTION * a.length * b.length)
    if (a.length !== b.length) return false
    return a.every(({ Name, Value }) =>
      b.some((other) => other.Name === Name && this.#sameValue(other.Value, Value)),
    )
  }

  /** The order of an input object's fields does not matter. */
  #sameValue(a: Value, b: Value): boolean {
    spend(this.#context, NS_PER_COMPARISON)
    if (a.Kind !== b.Kind || a.Raw !== b.Raw || a.Children.length !== b.Children.length) return false
    const [ofA, ofB] = a.Kind === VALUE_KIND.object ? [byName(a), byName(b)] : [a.Children, b.Children]
    return ofA.every(({ Name, Value }, at) => {
      const other = ofB[at]
      return other !== undefined && Name === other.Name && this.#sameValue(Value, other.Value)
    })
  }

  /** Leaves must be of one type; of anything else the selections will tell. */
  #typesConflict(a: Type, b: Type): boolean {
    if (a.Elem !== null && b.Elem !== null) return this.#typesConflict(a.Elem, b.Elem)
    if (a.Elem !== null || b.Elem !== null || a.NonNull !== b.NonNull) return true
    const { Types } = this.#walk.schema
    const [typeA, typeB] = [Types.get(a.NamedType), Types.get(b.NamedType)]
    if (typeA === undefined || typeB === undefined) return true
    return isLeafType(typeA) && isLeafType(typeB) && typeA.Name !== typeB.Name
  }
}

/** Fields of two different object types never meet in one answer. */
function areExclusive(a: Field, b: Field): boolean {
  return (
    a.ObjectDefinition?.Kind === 'OBJECT' &&
    b.ObjectDefinition?.Kind === 'OBJECT' &&
    a.ObjectDefinition.Name !== b.ObjectDefinition.Name &&
    a.Definition !== null &&
    b.Definition !== null
  )
}

function addField(fields: Map<string, Field[]>, field: Field): void {
  const name = field.Alias === '' ? field.Name : field.Alias
  const same = fields.get(name)
  if (same === undefined) fields.set(name, [field])
  else same.push(field)
}

function byName({ Children }: Value): readonly ChildValue[] {
  return Children.toSorted((a, b) => (a.Name < b.Name ? -1 : Number(a.Name > b.Name)))
}
