/**
 * GraphQL documents to Rego values and back, as OPA does it: Go's `encoding/json` over gqlparser's structs, and what is null or
 * empty removed. Reading takes what Go takes: names in any case, except where gqlparser reads a struct itself.
 */
import type { BuiltinContext } from '../budget.ts'
import { BuiltinError, spend } from '../budget.ts'
import { jsonMembers } from '../json-text.ts'
import { integer, RegoNumber, toInt64 } from '../number.ts'
import type { RegoValue } from '../value.ts'
import { isArray, RegoObject, RegoSet } from '../value.ts'
import type { QueryDocument, SchemaDocument, Type } from './document.ts'
import { ensure, typeName } from './lookup.ts'

const NS_PER_NODE = 500

/** Anything a document is made of. */
type Part = string | number | boolean | null | undefined | readonly Part[] | { readonly [name: string]: Part }

/** The value of a document. Strings, numbers and booleans stay; positions, null, empty lists and empty objects go. */
export function toRegoValue(document: QueryDocument | SchemaDocument, context: BuiltinContext): RegoObject {
  const value = prune(document as unknown as Part, context)
  return value instanceof RegoObject ? value : new RegoObject()
}

function prune(part: Part, context: BuiltinContext): RegoValue | undefined {
  spend(context, NS_PER_NODE)
  if (part === null || part === undefined) return undefined
  if (typeof part === 'number') return integer(part)
  if (typeof part !== 'object') return part
  if (Array.isArray(part)) {
    const elements = part
      .map((element: Part) => prune(element, context))
      .filter((value) => value !== undefined)
    return elements.length === 0 ? undefined : elements
  }
  const object = new RegoObject()
  for (const [name, member] of Object.entries(part)) {
    if (name === 'Position') continue
    const value = prune(member, context)
    if (value !== undefined) object.set(name, value)
  }
  return object.size === 0 ? undefined : object
}

/** How a member of a struct is read: a scalar, one struct, or a list. `!` marks a struct that no document lacks. */
type Shape =
  | 'string'
  | 'boolean'
  | 'int'
  | 'strings'
  | 'selections'
  | `${string}?`
  | `${string}!`
  | `${string}[]`

interface Struct {
  readonly members: Readonly<Record<string, Shape>>
  /** gqlparser reads the members of this struct by their exact names. */
  readonly exact?: boolean
}

const DESCRIBED = {
  Description: 'string',
  BeforeDescriptionComment: 'CommentGroup?',
  AfterDescriptionComment: 'CommentGroup?',
} as const

const PARAMETER = {
  ...DESCRIBED,
  Name: 'string',
  DefaultValue: 'Value?',
  Type: 'Type!',
  Directives: 'Directive[]',
} as const

const STRUCTS: Readonly<Record<string, Struct>> = {
  QueryDocument: {
    members: {
      Operations: 'OperationDefinition[]',
      Fragments: 'FragmentDefinition[]',
      Comment: 'CommentGroup?',
    },
  },
  OperationDefinition: {
    exact: true,
    members: {
      Operation: 'string',
      Name: 'string',
      VariableDefinitions: 'VariableDefinition[]',
      Directives: 'Directive[]',
      SelectionSet: 'selections',
      Position: 'Position?',
    },
  },
  VariableDefinition: {
    members: {
      Variable: 'string',
      Type: 'Type!',
      DefaultValue: 'Value?',
      Directives: 'Directive[]',
      Comment: 'CommentGroup?',
      Definition: 'Definition?',
      Used: 'boolean',
    },
  },
  FragmentDefinition: {
    exact: true,
    members: {
      Name: 'string',
      VariableDefinition: 'VariableDefinition[]',
      TypeCondition: 'string',
      Directives: 'Directive[]',
      SelectionSet: 'selections',
      Position: 'Position?',
      Definition: 'Definition?',
    },
  },
  Field: {
    exact: true,
    members: {
      Alias: 'string',
      Name: 'string',
      Arguments: 'Argument[]',
      Directives: 'Directive[]',
      SelectionSet: 'selections',
      Position: 'Position?',
      Definition: 'FieldDefinition?',
      ObjectDefinition: 'Definition?',
    },
  },
  FragmentSpread: {
    members: {
      Name: 'string',
      Directives: 'Directive[]',
      ObjectDefinition: 'Definition?',
      Definition: 'FragmentDefinition?',
      Comment: 'CommentGroup?',
    },
  },
  InlineFragment: {
    exact: true,
    members: {
      TypeCondition: 'string',
      Directives: 'Directive[]',
      SelectionSet: 'selections',
      Position: 'Position?',
      ObjectDefinition: 'Definition?',
    },
  },
  Directive: {
    members: {
      Name: 'string',
      Arguments: 'Argument[]',
      ParentDefinition: 'Definition?',
      Definition: 'DirectiveDefinition?',
      Location: 'string',
    },
  },
  Argument: { members: { Name: 'string', Value: 'Value!', Comment: 'CommentGroup?' } },
  ChildValue: { members: { Name: 'string', Value: 'Value!', Comment: 'CommentGroup?' } },
  Value: {
    members: {
      Raw: 'string',
      Children: 'ChildValue[]',
      Kind: 'int',
      Comment: 'CommentGroup?',
      Definition: 'Definition?',
      VariableDefinition: 'VariableDefinition?',
      ExpectedType: 'Type?',
      ExpectedTypeHasDefault: 'boolean',
    },
  },
  Type: { members: { NamedType: 'string', Elem: 'Type?', NonNull: 'boolean' } },
  CommentGroup: { members: { List: 'Comment[]' } },
  Comment: { members: { Value: 'string', Position: 'Position?' } },
  Position: { members: { Start: 'int', End: 'int', Line: 'int', Column: 'int', Src: 'Source?' } },
  Source: { members: { Name: 'string', Input: 'string', BuiltIn: 'boolean' } },
  SchemaDocument: {
    members: {
      Schema: 'SchemaDefinition[]',
      SchemaExtension: 'SchemaDefinition[]',
      Directives: 'DirectiveDefinition[]',
      Definitions: 'Definition[]',
      Extensions: 'Definition[]',
      Comment: 'CommentGroup?',
    },
  },
  SchemaDefinition: {
    members: {
      ...DESCRIBED,
      Directives: 'Directive[]',
      OperationTypes: 'OperationTypeDefinition[]',
      EndOfDefinitionComment: 'CommentGroup?',
    },
  },
  OperationTypeDefinition: { members: { Operation: 'string', Type: 'string', Comment: 'CommentGroup?' } },
  DirectiveDefinition: {
    members: {
      ...DESCRIBED,
      Name: 'string',
      Arguments: 'ArgumentDefinition[]',
      Locations: 'strings',
      IsRepeatable: 'boolean',
    },
  },
  Definition: {
    members: {
      ...DESCRIBED,
      Kind: 'string',
      Name: 'string',
      Directives: 'Directive[]',
      Interfaces: 'strings',
      Fields: 'FieldDefinition[]',
      Types: 'strings',
      EnumValues: 'EnumValueDefinition[]',
      BuiltIn: 'boolean',
      EndOfDefinitionComment: 'CommentGroup?',
    },
  },
  FieldDefinition: { members: { ...PARAMETER, Arguments: 'ArgumentDefinition[]' } },
  ArgumentDefinition: { members: PARAMETER },
  EnumValueDefinition: { members: { ...DESCRIBED, Name: 'string', Directives: 'Directive[]' } },
}

/**
 * The query document of a value.
 *
 * @throws {BuiltinError} for a value that is none, also for one OPA would not survive (null where a node has to be)
 */
export function toQueryDocument(value: RegoObject, context: BuiltinContext): QueryDocument {
  return new Reader(context).struct('QueryDocument', value) as unknown as QueryDocument
}

/** The schema document of a value; errors as of {@link toQueryDocument}. */
export function toSchemaDocument(value: RegoObject, context: BuiltinContext): SchemaDocument {
  return new Reader(context).struct('SchemaDocument', value) as unknown as SchemaDocument
}

/** A name with its case folded, as far as it can equal a name of ASCII letters. */
function fold(name: string): string {
  return name.replaceAll('\u017F', 's').replaceAll('\u212A', 'k').toLowerCase()
}

class Reader {
  readonly #context: BuiltinContext

  constructor(context: BuiltinContext) {
    this.#context = context
  }

  struct(name: string, value: RegoValue): { [member: string]: Part } {
    const { members, exact = false } = STRUCTS[name] ?? { members: {} }
    const found = this.#found(value, Object.keys(members), exact)
    const struct: { [member: string]: Part } = {}
    for (const [member, shape] of Object.entries(members)) {
      struct[member] = this.#member(shape, found.get(member) ?? null)
    }
    return struct
  }

  /** The members that are known; of several spellings the last one that is not null counts. */
  #found(value: RegoValue, names: readonly string[], exact: boolean): ReadonlyMap<string, RegoValue> {
    spend(this.#context, NS_PER_NODE * names.length)
    if (!(value instanceof RegoObject)) throw new BuiltinError('not an object')
    const byFolded = new Map(names.map((name) => [exact ? name : fold(name), name]))
    const found = new Map<string, RegoValue>()
    for (const [key, member] of jsonMembers(value, this.#context)) {
      const name = byFolded.get(exact ? key : fold(key))
      if (name !== undefined && member !== null) found.set(name, member)
    }
    return found
  }

  #member(shape: Shape, value: RegoValue): Part {
    switch (shape) {
      case 'string':
        return this.#string(value)
      case 'boolean':
        if (value !== null && typeof value !== 'boolean') throw new BuiltinError('not a boolean')
        return value ?? false
      case 'int':
        return this.#int(value)
      case 'strings':
        return this.#elements(value).map((element) => this.#string(element))
      case 'selections':
        return this.#elements(value).flatMap((element) => this.#selection(element))
      default:
        return this.#structs(shape, value)
    }
  }

  #structs(shape: string, value: RegoValue): Part {
    if (shape.endsWith('[]')) {
      return this.#elements(value).map((element) => this.struct(shape.slice(0, -2), element))
    }
    if (value === null && shape.endsWith('?')) return null
    const struct = this.struct(shape.slice(0, -1), value)
    if (shape === 'Type!') ensure(typeName(struct as unknown as Type) !== '', 'a type without a name')
    return struct
  }

  #string(value: RegoValue): string {
    if (value !== null && typeof value !== 'string') throw new BuiltinError('not a string')
    return value ?? ''
  }

  #int(value: RegoValue): number {
    if (value === null) return 0
    if (!(value instanceof RegoNumber) || !/^-?\d+$/.test(value.text) || toInt64(value) === undefined) {
      throw new BuiltinError('not an integer')
    }
    return Number(value.text)
  }

  #elements(value: RegoValue): readonly RegoValue[] {
    if (value === null) return []
    if (value instanceof RegoSet) return value.sorted()
    if (!isArray(value)) throw new BuiltinError('not an array')
    return value
  }

  /** gqlparser tries a field first, and nearly everything is one: a spread of a document given as a value becomes a field. */
  #selection(value: RegoValue): Part[] {
    if (value === null) return [this.struct('Field', new RegoObject())]
    for (const name of ['Field', 'FragmentSpread', 'InlineFragment']) {
      try {
        return [this.struct(name, value)]
      } catch (thrown) {
        if (!(thrown instanceof BuiltinError)) throw thrown
      }
    }
    return []
  }
}
