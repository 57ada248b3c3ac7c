/** `json.patch`: RFC 6902 over Rego values, sets included; OPA v1/topdown/json.go and internal/edittree. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, spend } from './budget.ts'
import { RegoNumber, toInt64 } from './number.ts'
import type { BuiltinFamily } from './operands.ts'
import { anyOperand, arrayOperand } from './operands.ts'
import type { RegoValue } from './value.ts'
import { equalValues, isArray, RegoObject, RegoSet } from './value.ts'

type Path = readonly RegoValue[]
type Composite = readonly RegoValue[] | RegoObject | RegoSet

const NS_PER_ELEMENT = 200

/** A path is a JSON pointer, whose leading slashes may be missing or many, or an array of segments of any type. */
function parsePath(value: RegoValue | undefined): Path {
  if (isArray(value)) return value
  if (typeof value !== 'string') throw new BuiltinError('path must be a string or an array of segments')
  if (value === '') return []
  return value
    .replace(/^\/+/, '')
    .split('/')
    .map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~'))
}

function requireMember(operation: RegoObject, name: string): RegoValue {
  const member = operation.get(name)
  if (member === undefined) throw new BuiltinError(`missing required attribute '${name}'`)
  return member
}

/** An index into an array of this length; `-` is the place behind the last element. */
function toIndex(segment: RegoValue, length: number): number {
  if (segment === '-') return length
  const text = segment instanceof RegoNumber ? segment.text : segment
  if (typeof text !== 'string') throw new BuiltinError('invalid type for indexing')
  const index = toInt64(new RegoNumber(text.replace(/^\+/, '')))
  if (index === undefined) throw new BuiltinError('invalid number for indexing')
  if (typeof segment === 'string' && segment !== '0' && segment.startsWith('0')) {
    throw new BuiltinError('leading zeros are not allowed in JSON paths')
  }
  return Number(index)
}

function isComposite(value: RegoValue | undefined): value is Composite {
  return isArray(value) || value instanceof RegoObject || value instanceof RegoSet
}

function childOf(container: RegoValue, segment: RegoValue): RegoValue {
  const child = lookUp(container, segment)
  if (child === undefined) throw new BuiltinError('path does not exist')
  return child
}

function lookUp(container: RegoValue, segment: RegoValue): RegoValue | undefined {
  if (container instanceof RegoObject) return container.get(segment)
  if (container instanceof RegoSet) return container.has(segment) ? segment : undefined
  return isArray(container) ? container[toIndex(segment, container.length)] : undefined
}

/**
 * Applies the operations one by one; each makes new containers along its path and shares the rest.
 *
 * OPA 1.22 reads an array element at its index before earlier operations moved it; here the index means what RFC 6902
 * says: the array as the operations so far have left it.
 */
class Patcher {
  /** Undefined after the root was removed. */
  #document: RegoValue | undefined
  readonly #context: BuiltinContext

  constructor(document: RegoValue, context: BuiltinContext) {
    this.#document = document
    this.#context = context
  }

  get document(): RegoValue | undefined {
    return this.#document
  }

  apply(operation: RegoValue): void {
    if (!(operation instanceof RegoObject)) throw new BuiltinError('must be an array of JSON-Patch objects')
    const path = parsePath(requireMember(operation, 'path'))
    const op = requireMember(operation, 'op')
    switch (op) {
      case 'add':
        this.#insert(path, requireMember(operation, 'value'))
        break
      case 'remove':
        this.#remove(path)
        break
      case 'replace':
        this.#remove(path)
        this.#insert(path, requireMember(operation, 'value'))
        break
      case 'copy':
        this.#insert(path, this.#read(parsePath(requireMember(operation, 'from'))))
        break
      case 'move':
        this.#move(parsePath(requireMember(operation, 'from')), path)
        break
      case 'test':
        this.#test(path, requireMember(operation, 'value'))
        break
      default:
        throw new BuiltinError('unrecognized op')
    }
  }

  #move(from: Path, path: Path): void {
    const moved = this.#read(from)
    this.#remove(from)
    this.#insert(path, moved)
  }

  #test(path: Path, wanted: RegoValue): void {
    const found = this.#read(path)
    if (!equalValues(found, wanted)) throw new BuiltinError('tested value differs')
  }

  #root(): RegoValue {
    if (this.#document === undefined) throw new BuiltinError('the document was removed')
    return this.#document
  }

  #read(path: Path): RegoValue {
    return path.reduce((value, segment) => childOf(value, segment), this.#root())
  }

  #insert(path: Path, value: RegoValue): void {
    const last = path.at(-1)
    if (last === undefined) this.#document = value
    else this.#edit(path, (container) => this.#inserted(container, last, value))
  }

  #remove(path: Path): void {
    const last = path.at(-1)
    if (last !== undefined) {
      this.#edit(path, (container) => this.#removed(container, last))
      return
    }
    this.#root()
    this.#document = undefined
  }

  /** Replaces the container that the last segment of the path lies in. */
  #edit(path: Path, change: (container: Composite) => Composite): void {
    const editAt = (value: RegoValue, depth: number): RegoValue => {
      const segment = path[depth] ?? null
      if (!isComposite(value)) throw new BuiltinError('expected composite type')
      if (depth === path.length - 1) return change(value)
      const child = childOf(value, segment)
      return this.#withChild(value, segment, child, editAt(child, depth + 1))
    }
    this.#document = editAt(this.#root(), 0)
  }

  #withChild(container: Composite, segment: RegoValue, old: RegoValue, changed: RegoValue): RegoValue {
    this.#chargeCopy(container)
    if (container instanceof RegoObject) {
      const copy = new RegoObject(container)
      copy.set(segment, changed)
      return copy
    }
    if (container instanceof RegoSet) {
      return new RegoSet([...container.sorted().filter((member) => !equalValues(member, old)), changed])
    }
    return container.with(toIndex(segment, container.length), changed)
  }

  #inserted(container: Composite, key: RegoValue, value: RegoValue): Composite {
    this.#chargeCopy(container)
    if (container instanceof RegoObject) {
      const copy = new RegoObject(container)
      copy.set(key, value)
      return copy
    }
    if (container instanceof RegoSet) {
      if (!equalValues(key, value)) throw new BuiltinError('set key does not equal value to be inserted')
      return new RegoSet([...container, value])
    }
    const index = toIndex(key, container.length)
    if (index < 0 || index > container.length) throw new BuiltinError('index out of bounds')
    return container.toSpliced(index, 0, value)
  }

  #removed(container: Composite, key: RegoValue): Composite {
    this.#chargeCopy(container)
    if (isArray(container)) {
      const index = toIndex(key, container.length)
      if (index < 0 || index >= container.length) throw new BuiltinError('index out of bounds')
      return container.toSpliced(index, 1)
    }
    const copy = container instanceof RegoObject ? new RegoObject(container) : new RegoSet(container)
    if (!copy.delete(key)) throw new BuiltinError('cannot delete what does not exist')
    return copy
  }

  #chargeCopy(container: Composite): void {
    const size = isArray(container) ? container.length : container.size
    spend(this.#context, (size + 10) * NS_PER_ELEMENT)
  }
}

/** The family, by Rego names. */
export const PATCH: BuiltinFamily = {
  'json.patch': (operands, context) => {
    const patcher = new Patcher(anyOperand(operands, 1), context)
    for (const operation of arrayOperand(operands, 2)) patcher.apply(operation)
    return patcher.document
  },
}
