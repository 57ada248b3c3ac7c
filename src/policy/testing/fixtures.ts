/** Named principals, tools and servers of test tables. */

import type { Principal } from '../../gateway/types.ts'
import { nearestName } from '../../nearest-name.ts'
import type { PolicyError } from '../compiler.ts'
import type { YamlDocument, YamlPath } from './yaml-document.ts'

/** The kinds of fixtures, as their sections are called. */
export type FixtureKind = 'principals' | 'tools' | 'servers'

/** A fixture and where it stands. */
export interface Fixture {
  readonly name: string
  readonly document: YamlDocument
  readonly path: YamlPath
  /** What the schema lets through; absent parts are absent. */
  readonly value: Readonly<Record<string, unknown>>
}

const KINDS: readonly FixtureKind[] = ['principals', 'tools', 'servers']

/** The fixtures a table can name: its own, and those that its folder shares. */
export class Fixtures {
  readonly #known = new Map<FixtureKind, Map<string, Fixture>>()
  readonly #shared: Fixtures | null

  constructor(shared: Fixtures | null) {
    this.#shared = shared
  }

  /** Takes those of a table; one that is there already is an error. */
  add(document: YamlDocument): readonly PolicyError[] {
    const errors: PolicyError[] = []
    const sections = asObject(asObject(document.value)['fixtures'])
    for (const kind of KINDS) {
      if (sections[kind] === undefined) continue
      const known = this.#known.get(kind) ?? new Map<string, Fixture>()
      this.#known.set(kind, known)
      for (const [name, value] of Object.entries(asObject(sections[kind]))) {
        const path = ['fixtures', kind, name]
        const other = this.find(kind, name)
        if (other === null) known.set(name, { name, document, path, value: asObject(value) })
        else {
          const { file, row } = other.document.placeOf(other.path, true)
          const message = `${kind} has a ${name} already`
          errors.push(
            document.error(path, {
              code: 'wrong_value',
              message,
              hint: `it stands at ${file}:${row}`,
              key: true,
            }),
          )
        }
      }
    }
    return errors
  }

  /** null when there is none of that name. */
  find(kind: FixtureKind, name: string): Fixture | null {
    return this.#known.get(kind)?.get(name) ?? this.#shared?.find(kind, name) ?? null
  }

  /** Whether any section names fixtures of the kind. */
  has(kind: FixtureKind): boolean {
    return this.#known.has(kind) || (this.#shared?.has(kind) ?? false)
  }

  /** What to say about a name that is not there. */
  hint(kind: FixtureKind, name: string): string {
    const names = this.names(kind)
    if (names.length === 0) return `add it to fixtures.${kind}`
    const near = nearestName(name, names)
    return `${near === null ? '' : `did you mean ${near}? `}${kind}: ${names.join(', ')}`
  }

  /** All names of a kind. */
  names(kind: FixtureKind): readonly string[] {
    return [...(this.#shared?.names(kind) ?? []), ...(this.#known.get(kind)?.keys() ?? [])]
  }
}

/** The principal that a fixture describes. */
export function toPrincipal({ name, value }: Fixture): Principal {
  const texts = (member: string) => (value[member] ?? []) as readonly string[]
  return {
    id: (value['id'] ?? name) as string,
    kind: (value['kind'] ?? 'user') as Principal['kind'],
    roles: texts('roles'),
    tenant: (value['tenant'] ?? null) as string | null,
    teams: texts('teams'),
    scopes: texts('scopes'),
    claims: asObject(value['claims']),
    authMethod: (value['auth_method'] ?? 'api_key') as Principal['authMethod'],
    apiKeyId: null,
  }
}

/** Objects as they are, everything else as an empty one. */
export function asObject(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : {}
}
