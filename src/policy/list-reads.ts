/**
 * What rules read of the elements of a list, by what the module itself says (`LIST_READS`): nothing else of an element can
 * make a difference, so nothing else is asked about.
 */
import type { Target } from '../gateway/types.ts'
import type { PolicyHost } from './host.ts'
import { targetText } from './input.ts'
import { LIST_READS } from './product-module.ts'

/** A field of the input, as the names that lead to it. */
export type FieldPath = readonly string[]

/** JSON text of what rules read of a target, besides its kind: equal texts and kinds have equal verdicts. */
export type Projection = (target: Target) => string

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
  if (fields === null) return targetText
  const readsDigest = fields.some(([first]) => first === 'schema_digest')
  const members = membersOf(fields)
  const annotationsOf = members === null ? toText : (annotations: Annotations) => pick(annotations, members)
  const readsAnnotations = fields.some(([first]) => first === 'annotations')
  return ({ name, annotations, schemaDigest }) => {
    const digest = readsDigest && schemaDigest !== null ? `,"schema_digest":${toText(schemaDigest)}` : ''
    const hints = readsAnnotations ? `,"annotations":${annotationsOf(annotations)}` : ''
    return `{"name":${toText(name)}${hints}${digest}}`
  }
}

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

function pick(annotations: Annotations, members: readonly Member[]): string {
  let text = ''
  for (const { name, key } of members) {
    if (!Object.hasOwn(annotations, name)) continue
    const value = annotations[name]
    const separator = text === '' ? '' : ','
    text += `${separator}${key}:${typeof value === 'boolean' ? String(value) : toText(value)}`
  }
  return `{${text}}`
}

function isPaths(value: unknown): value is readonly FieldPath[] {
  return (
    Array.isArray(value) &&
    value.every((path) => Array.isArray(path) && path.every((name) => typeof name === 'string'))
  )
}
