/**
 * What rules read of the elements of a list, by what the module itself says (`LIST_READS`): nothing else of an element can
 * make a difference, so nothing else is asked about.
 */
import type { Target } from '../gateway/types.ts'
import type { PolicyHost } from './host.ts'
import { LIST_READS } from './product-module.ts'

/** A field of the input, as the names that lead to it. */
export type FieldPath = readonly string[]

/**
 * What rules read of a target besides name and kind, as JSON members each with a comma before it: targets that are equal in
 * all three have equal verdicts.
 */
export type Projection = (target: Target) => string

/** JSON text of an element with this name and what a projection says of it. */
export function elementText(name: string, rest: string): string {
  return `{"name":${PLAIN.test(name) ? `"${name}"` : toText(name)}${rest}}`
}

/** The fields of the input that verdicts of a loaded policy may depend on; null when its module does not tell. */
export function listReadsOf(host: PolicyHost): readonly FieldPath[] | null {
  if (!host.entrypoints.includes(LIST_READS.as)) return null
  const request = { entrypoint: LIST_READS.as, input: null, nowNs: 0n, record: false }
  return parseListReads(host.evaluate(request).result)
}

/** Null for what is no value of `LIST_READS`. */
export function parseListReads(value: unknown): readonly FieldPath[] | null {
  return isPaths(value) ? value : null
}

/** @param reads null = nobody knows, so it is all of a target */
export function createProjection(reads: readonly FieldPath[] | null): Projection {
  const fields = fieldsOf(reads)
  if (fields === null) return wholeRest
  const readsDigest = fields.some(([first]) => first === 'schema_digest')
  const members = membersOf(fields)
  const annotationsOf = members === null ? allOf : createPicker(members)
  const readsAnnotations = fields.some(([first]) => first === 'annotations')
  return ({ annotations, schemaDigest }) => {
    const hints = readsAnnotations ? annotationsOf(annotations) : ''
    return readsDigest && schemaDigest !== null ? `${hints},"schema_digest":${toText(schemaDigest)}` : hints
  }
}

const wholeRest: Projection = ({ kind, annotations, schemaDigest }) =>
  `,${toText({ kind, annotations, schema_digest: schemaDigest ?? undefined }).slice(1, -1)}`

/** Names as most tools have them stand in JSON as they are. */
const PLAIN = /^[\w.\-/: ]*$/

type Annotations = Target['annotations']

const toText = (value: unknown): string => JSON.stringify(value)

/** Paths within the target; null when it is read as a whole, or as one of the list. */
function fieldsOf(reads: readonly FieldPath[] | null): readonly FieldPath[] | null {
  if (reads === null || reads.some(([first]) => first === undefined || first === 'targets')) return null
  const fields = reads.filter(([first]) => first === 'target').map((path) => path.slice(1))
  return fields.some((path) => path.length === 0) ? null : fields
}

/** A member of the annotations that is read, and its key as JSON text. */
interface Member {
  readonly name: string
  readonly key: string
}

/** Null when all are. Unpaired surrogates become U+FFFD in an input, so whoever reads that may mean another key. */
function membersOf(fields: readonly FieldPath[]): readonly Member[] | null {
  const names = fields.filter(([first]) => first === 'annotations').map(([, second]) => second)
  const members: Member[] = []
  for (const name of new Set(names)) {
    if (name === undefined || name.includes('\ufffd')) return null
    members.push({ name, key: toText(name) })
  }
  return members
}

const allOf = (annotations: Annotations): string => `,"annotations":${toText(annotations)}`

/** Of so many members each set of flags is written once. */
const MAX_FLAGS = 6

/** JSON text of some members of annotations. Most are flags, of which there are few combinations. */
function createPicker(members: readonly Member[]): (annotations: Annotations) => string {
  const known: string[] = []
  return (annotations) => {
    const flags = members.length <= MAX_FLAGS ? flagsOf(annotations, members) : -1
    if (flags < 0) return pick(annotations, members)
    const text = known[flags] ?? pick(annotations, members)
    known[flags] = text
    return text
  }
}

/** A number for each combination of missing, true and false; -1 when there is another value. */
function flagsOf(annotations: Annotations, members: readonly Member[]): number {
  let flags = 0
  for (const { name } of members) {
    const value = Object.hasOwn(annotations, name) ? annotations[name] : undefined
    if (value !== undefined && typeof value !== 'boolean') return -1
    flags = 3 * flags + (value === undefined ? 0 : 1 + Number(value))
  }
  return flags
}

function pick(annotations: Annotations, members: readonly Member[]): string {
  const texts: string[] = []
  for (const { name, key } of members) {
    const value = Object.hasOwn(annotations, name) ? annotations[name] : undefined
    if (value !== undefined) texts.push(`${key}:${toText(value)}`)
  }
  return `,"annotations":{${texts.join(',')}}`
}

function isPaths(value: unknown): value is readonly FieldPath[] {
  return (
    Array.isArray(value) &&
    value.every((path) => Array.isArray(path) && path.every((name) => typeof name === 'string'))
  )
}
