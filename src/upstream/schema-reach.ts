/**
 * How often the parts of a schema can be applied to one value: what a check costs at most can then be told from the value,
 * before it is made.
 */

/** Counts over the whole schema, each part as often as references repeat it. Infinity: that depends on the value. */
export interface SchemaReach {
  /** Values of any kind in the schema. Each is looked at once, at most, for each value that is checked. */
  readonly values: number
  /** Keywords that count the characters of a text. */
  readonly lengths: number
  readonly uniques: number
  readonly patterns: number
}

const NOTHING: SchemaReach = { values: 0, lengths: 0, uniques: 0, patterns: 0 }
const ONE_VALUE: SchemaReach = { ...NOTHING, values: 1 }
const UNBOUNDED: SchemaReach = {
  values: Number.POSITIVE_INFINITY,
  lengths: Number.POSITIVE_INFINITY,
  uniques: Number.POSITIVE_INFINITY,
  patterns: Number.POSITIVE_INFINITY,
}

type Members = Readonly<Record<string, unknown>>

/**
 * Only references by pointer from the root are followed (`#/$defs/address`); one that leads back to where it stands, or is of
 * another kind, has no bound. Data is counted as if it were a schema: too much is safe.
 */
export function reachOf(root: object): SchemaReach {
  /** null = being counted: whoever meets it again goes in a circle. */
  const counted = new Map<object, SchemaReach | null>()

  function count(value: unknown): SchemaReach {
    if (typeof value !== 'object' || value === null) return ONE_VALUE
    const known = counted.get(value)
    if (known !== undefined) return known ?? UNBOUNDED
    counted.set(value, null)
    let sum = Array.isArray(value) ? ONE_VALUE : ownReach(value as Members, value === root)
    for (const member of Object.values(value)) sum = add(sum, count(member))
    if ('$ref' in value) sum = add(sum, countTarget(value.$ref))
    counted.set(value, sum)
    return sum
  }

  function countTarget(reference: unknown): SchemaReach {
    const target = typeof reference === 'string' ? resolve(root, reference) : undefined
    return target === undefined ? UNBOUNDED : count(target)
  }

  return count(root)
}

function ownReach(schema: Members, isRoot: boolean): SchemaReach {
  // What these change is where other references lead to.
  const isMoved = '$dynamicRef' in schema || '$recursiveRef' in schema || (!isRoot && '$id' in schema)
  if (isMoved) return UNBOUNDED
  const named = schema['patternProperties']
  const patterns = typeof named === 'object' && named !== null ? Object.keys(named).length : 0
  return {
    values: 1,
    lengths: countNumbers(schema, ['minLength', 'maxLength']),
    uniques: schema['uniqueItems'] === true ? 1 : 0,
    patterns: patterns + (typeof schema['pattern'] === 'string' ? 1 : 0),
  }
}

function countNumbers(schema: Members, names: readonly string[]): number {
  return names.filter((name) => typeof schema[name] === 'number').length
}

function add(a: SchemaReach, b: SchemaReach): SchemaReach {
  return {
    values: a.values + b.values,
    lengths: a.lengths + b.lengths,
    uniques: a.uniques + b.uniques,
    patterns: a.patterns + b.patterns,
  }
}

/** What a JSON Pointer in a fragment stands for (RFC 6901 §6); undefined when it is not one, or leads nowhere. */
function resolve(root: object, reference: string): unknown {
  if (reference !== '#' && !reference.startsWith('#/')) return undefined
  let value: unknown = root
  for (const segment of reference.split('/').slice(1)) {
    const name = decode(segment)
    if (name === null || typeof value !== 'object' || value === null || !Object.hasOwn(value, name))
      return undefined
    value = (value as Members)[name]
  }
  return value
}

function decode(segment: string): string | null {
  try {
    return decodeURIComponent(segment).replaceAll('~1', '/').replaceAll('~0', '~')
  } catch {
    return null
  }
}
