/** `$id` and `$ref` of a schema document. Only the document itself is ever looked at; nothing is fetched. */
import type { Draft } from './schema-model.ts'
import { SchemaError } from './schema-model.ts'
import type { RegoValue } from './value.ts'
import { isArray, RegoObject } from './value.ts'

/** A schema that a reference leads to. `draft` undefined = that of the referring schema. */
export interface ReferencedSchema {
  readonly document: RegoValue
  readonly draft: Draft | undefined
}

const DRAFT_URL = /^https?:\/\/json-schema\.org\/draft-0([467])\/schema#?$/

/** The draft that `$schema` names, undefined when it names none of the known ones. */
export function detectDraft(document: RegoValue): Draft | undefined {
  if (typeof document === 'boolean') return undefined
  if (!(document instanceof RegoObject)) throw new SchemaError('schema is invalid')
  const url = document.get('$schema')
  if (url === undefined) return undefined
  if (typeof url !== 'string') throw new SchemaError('$schema must be of type string')
  const number = DRAFT_URL.exec(url)?.[1]
  return number === undefined ? undefined : DRAFTS[number]
}

const DRAFTS: Readonly<Record<string, Draft>> = { 4: 4, 6: 6, 7: 7 }

/** A URI reference against a base; a fragment alone stays in the base's document. */
function resolveUri(base: string, reference: string): string {
  if (reference.startsWith('#')) return withoutFragment(base) + (reference === '#' ? '' : reference)
  if (!URL.canParse(reference, URL.canParse(base) ? base : undefined)) return reference
  return new URL(reference, URL.canParse(base) ? base : undefined).href.replace(/#$/, '')
}

function withoutFragment(uri: string): string {
  return uri.replace(/#.*$/s, '')
}

/** All identified schemas of a document, and where each `$ref` in it points. */
export class SchemaReferences {
  readonly #documents = new Map<string, RegoValue>()
  readonly #targets = new Map<RegoObject, string>()
  readonly #draft: Draft | undefined

  constructor(root: RegoValue, draft: Draft | undefined) {
    this.#draft = draft
    this.#collect(root, '')
    if (!this.#documents.has('')) this.#documents.set('', root)
  }

  /** The absolute target of the object's `$ref`. */
  targetOf(schema: RegoObject): string {
    return this.#targets.get(schema) ?? String(schema.get('$ref'))
  }

  /** The schema a target stands for. */
  resolve(target: string): ReferencedSchema {
    const identified = this.#documents.get(target)
    if (identified !== undefined) return { document: identified, draft: this.#draft }
    const base = this.#documents.get(withoutFragment(target))
    if (base === undefined) throw new SchemaError(`remote references are not followed: ${target}`)
    return { document: resolvePointer(base, target.slice(target.indexOf('#') + 1)), draft: this.#draft }
  }

  #collect(value: RegoValue, base: string): void {
    if (isArray(value)) for (const element of value) this.#collect(element, base)
    if (value instanceof RegoObject) this.#collectObject(value, base)
  }

  #collectObject(schema: RegoObject, base: string): void {
    const id = schema.get(schema.has('id') ? 'id' : '$id')
    const own = typeof id === 'string' ? resolveUri(base, id) : base
    if (typeof id === 'string') {
      if (this.#documents.has(own)) throw new SchemaError(`Reference already exists: "${own}"`)
      this.#documents.set(own, schema)
    }
    const reference = schema.get('$ref')
    if (typeof reference === 'string') this.#targets.set(schema, resolveUri(own, reference))
    for (const [keyword, member] of schema) this.#collectMember(keyword, member, own)
  }

  #collectMember(keyword: RegoValue, member: RegoValue, base: string): void {
    if (keyword === 'const' || keyword === 'enum') return
    // The keys of these are names, not keywords.
    const isMap = keyword === 'properties' || keyword === 'dependencies' || keyword === 'patternProperties'
    if (!isMap) this.#collect(member, base)
    else if (member instanceof RegoObject) for (const [, child] of member) this.#collect(child, base)
  }
}

function resolvePointer(document: RegoValue, fragment: string): RegoValue {
  if (fragment === '') return document
  const pointer = decodeFragment(fragment)
  // As in OPA's library, a name that nothing bears means the whole document.
  if (!pointer.startsWith('/')) return document
  let value = document
  for (const segment of pointer.slice(1).split('/')) {
    const key = segment.replaceAll('~1', '/').replaceAll('~0', '~')
    const child: RegoValue | undefined =
      value instanceof RegoObject ? value.get(key) : isArray(value) ? value[Number(key)] : undefined
    if (child === undefined) throw new SchemaError(`Object has no key '${key}'`)
    value = child
  }
  return value
}

function decodeFragment(fragment: string): string {
  try {
    return decodeURIComponent(fragment)
  } catch {
    throw new SchemaError('reference is no URI')
  }
}
