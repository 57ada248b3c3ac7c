/** A case with its options -> one test for each combination of its principals, targets and servers. */
import type { Target } from '../../gateway/types.ts'
import { nearestName } from '../../nearest-name.ts'
import type { CallFacts } from '../asked-call.ts'
import { CaseProblem } from './case-problem.ts'
import type { ExpectationEntry } from './expectation.ts'
import { expectationFor } from './expectation.ts'
import type { Fixture, Fixtures } from './fixtures.ts'
import { asObject, toPrincipal } from './fixtures.ts'
import { parseMoment } from './moment.ts'
import type { Subject } from './subject.ts'
import { bareArguments, toSubject, WrongSubject } from './subject.ts'
import type { Origin, TestCase } from './table.ts'
import { DEFAULT_NOW_NS } from './table.ts'
import type { YamlDocument, YamlPath } from './yaml-document.ts'

/** Options of tables, groups and cases. */
export const OPTIONS = [
  'now',
  'phase',
  'principal',
  'tool',
  'server',
  'method',
  'target',
  'arguments',
  'request',
  'client',
  'skip',
] as const
/** Name of an option. */
export type OptionName = (typeof OPTIONS)[number]

/** An option and where it stands. */
export interface Setting {
  readonly value: unknown
  readonly path: YamlPath
}
/** The options that are in force. */
export type Settings = Readonly<Partial<Record<OptionName, Setting>>>

/** One way to fill the slot of what is used. */
interface What {
  readonly label: string
  readonly path: YamlPath
  readonly tool: Fixture | null
  readonly kind: Target['kind'] | null
  readonly name: string | null
}

/** More tests than anybody reads; a matrix grows fast. */
export const MAX_CASES = 10_000

/** A case with its options, before it is multiplied out. */
export interface Leaf {
  readonly path: YamlPath
  readonly name: string
  readonly settings: Settings
  readonly phase: 'call' | 'list'
  readonly expects: readonly ExpectationEntry[]
}

/** Makes the tests of one table's cases. */
export class CaseMaker {
  readonly #document: YamlDocument
  readonly #fixtures: Fixtures

  constructor(document: YamlDocument, fixtures: Fixtures) {
    this.#document = document
    this.#fixtures = fixtures
  }

  /**
   * The tests of a case.
   * @throws CaseProblem
   */
  make(leaf: Leaf): readonly TestCase[] {
    const { settings } = leaf
    const principals = this.#principals(leaf)
    const whats = this.#whats(leaf)
    const servers = settings.server === undefined ? [null] : names(settings.server.value)
    if (principals.length * whats.length * servers.length > MAX_CASES)
      throw this.#problem(leaf.path, `the case makes more than ${MAX_CASES} tests`, 'split it')
    this.#checkSelectors(leaf, principals, whats)
    const several = servers.length > 1
    const used = new Set<ExpectationEntry>()
    const cases = principals.flatMap((principal) =>
      whats.flatMap((what) =>
        servers.map((server) => this.#test(leaf, { principal, what, server, several }, used)),
      ),
    )
    const unused = leaf.expects.find((entry) => !used.has(entry))
    if (unused !== undefined) throw this.#problem(unused.path, 'no combination of this case is meant by this')
    return cases
  }

  /** A name that the case does not have would silently leave the combination it was meant for denied. */
  #checkSelectors(leaf: Leaf, principals: readonly Fixture[], whats: readonly What[]): void {
    const known = {
      principals: principals.map(({ name }) => name),
      whats: whats.map(({ label }) => label),
      servers: leaf.settings.server === undefined ? null : names(leaf.settings.server.value),
    }
    for (const entry of leaf.expects) {
      for (const dimension of ['principals', 'whats', 'servers'] as const) {
        const there = known[dimension]
        const wrong = there === null ? undefined : entry[dimension]?.find((name) => !there.includes(name))
        if (wrong === undefined || there === null) continue
        const near = nearestName(wrong, there)
        const hint = `${near === null ? '' : `did you mean ${near}? `}the case has: ${there.join(', ')}`
        throw this.#problem(entry.path, `the case has no ${wrong}`, hint)
      }
    }
  }

  #principals({ settings, path }: Leaf): readonly Fixture[] {
    const setting = settings.principal
    if (setting === undefined)
      throw this.#problem(path, 'nobody is calling', 'give principal: the name of a fixture')
    return names(setting.value).map((name, index) =>
      this.#fixture('principals', name, elementPath(setting, index)),
    )
  }

  #whats({ settings, path }: Leaf): readonly What[] {
    const { tool, target, method } = settings
    if (tool !== undefined) {
      return names(tool.value).map((name, index) => {
        const at = elementPath(tool, index)
        const fixture = this.#fixture('tools', name, at)
        return {
          label: name,
          path: at,
          tool: fixture,
          kind: 'tool',
          name: String(fixture.value['name'] ?? name),
        }
      })
    }
    if (target !== undefined) {
      const list = Array.isArray(target.value) ? (target.value as readonly unknown[]) : [target.value]
      return list.map((one, index) => {
        const { kind = null, name = one } = asObject(one) as { kind?: Target['kind']; name?: unknown }
        return { label: String(name), path: elementPath(target, index), tool: null, kind, name: String(name) }
      })
    }
    if (method === undefined) throw this.#problem(path, 'nothing is called', 'give tool, target or method')
    return [{ label: String(method.value), path: method.path, tool: null, kind: null, name: null }]
  }

  #test(
    leaf: Leaf,
    pick: {
      readonly principal: Fixture
      readonly what: What
      readonly server: string | null
      readonly several: boolean
    },
    used: Set<ExpectationEntry>,
  ): TestCase {
    const { principal, what } = pick
    const { server, label } = this.#server(leaf, what, pick.server)
    const subject = this.#subject(leaf, what, server.name)
    const labels = [principal.name, what.label, ...(pick.several ? [label] : [])]
    const choice = { principal: principal.name, what: what.label, server: label }
    const { expect, entry, clash } = expectationFor(leaf.expects, choice)
    if (clash !== null) {
      const message = `${labels.join(', ')}: another expectation is for this combination, too`
      throw this.#problem(
        clash.path,
        message,
        `it stands in line ${this.#document.placeOf(entry?.path ?? []).row}`,
      )
    }
    if (entry !== null) used.add(entry)
    const skip = leaf.settings.skip?.value
    return {
      place: this.#document.placeOf(leaf.path),
      name: leaf.name,
      labels,
      nowNs: this.#now(leaf),
      phase: leaf.phase,
      facts: this.#facts(leaf, { principal, what, server, subject }),
      expect,
      skip: skip === undefined ? null : String(skip),
      origins: this.#origins(leaf, principal, what, label),
      written: { document: this.#document, path: leaf.path, entry: entry?.path ?? null, choice },
    }
  }

  #facts(
    leaf: Leaf,
    made: {
      readonly principal: Fixture
      readonly what: What
      readonly server: CallFacts['server']
      readonly subject: Subject
    },
  ): CallFacts {
    const { request, client } = leaf.settings
    const { id, ip, session, protocol_version: version } = asObject(request?.value) as Record<string, string>
    const { annotations, schema_digest: digest } = made.what.tool?.value ?? {}
    return {
      request: {
        id: id ?? '00000000-0000-7000-8000-000000000000',
        method: made.subject.method,
        protocolVersion: version ?? null,
        ip: ip ?? null,
        session: session ?? null,
      },
      principal: toPrincipal(made.principal),
      server: made.server,
      target: {
        ...made.subject.target,
        annotations: asObject(annotations),
        schemaDigest: (digest ?? null) as string | null,
      },
      argumentsText: this.#arguments(leaf, made.subject, made.what.name),
      client: client === undefined ? null : (client.value as CallFacts['client']),
    }
  }

  #arguments(leaf: Leaf, subject: Subject, name: string | null): string | null {
    const given = leaf.settings.arguments
    if (leaf.phase === 'list') {
      const isOwn = given !== undefined && given.path.length === leaf.path.length + 1
      if (isOwn) throw this.#problem(given.path, 'in phase list there are no arguments', 'leave them out')
      return null
    }
    if (given === undefined) return bareArguments(subject, name)
    const json = this.#document.jsonAt(given.path)
    if (json === null) throw this.#problem(given.path, 'the arguments hold a value that JSON does not have')
    return json
  }

  /** The upstream, and the name by which the table knows it. */
  #server(
    leaf: Leaf,
    what: What,
    named: string | null,
  ): { readonly server: CallFacts['server']; readonly label: string } {
    const own = what.tool?.value['server']
    const label = named ?? (own === undefined ? null : String(own))
    if (label === null) {
      throw this.#problem(
        leaf.path,
        'the upstream is missing',
        'give server, here or in the fixture of the tool',
      )
    }
    if (!this.#fixtures.has('servers')) return { server: { name: label, labels: {} }, label }
    const isNamedHere = named !== null || what.tool === null
    const document = isNamedHere ? this.#document : (what.tool?.document ?? this.#document)
    const path = isNamedHere
      ? (leaf.settings.server?.path ?? leaf.path)
      : [...(what.tool?.path ?? []), 'server']
    const { value } = this.#fixture('servers', label, path, document)
    const labels = asObject(value['labels']) as Record<string, string>
    return { server: { name: String(value['name'] ?? label), labels }, label }
  }

  #subject(leaf: Leaf, what: What, server: string): Subject {
    const method = leaf.settings.method?.value
    const wish = { phase: leaf.phase, method: method === undefined ? null : String(method), server }
    try {
      return toSubject({ ...wish, name: what.name, kind: what.kind })
    } catch (error) {
      if (!(error instanceof WrongSubject)) throw error
      throw this.#problem(leaf.settings.method?.path ?? what.path, error.message, error.hint)
    }
  }

  #now({ settings: { now } }: Leaf): bigint {
    if (now === undefined) return DEFAULT_NOW_NS
    const moment = parseMoment(String(now.value))
    if (moment === null)
      throw this.#problem(now.path, `${String(now.value)} is no moment`, 'there is no such day or hour')
    return moment
  }

  /** Which part of the input stands where. */
  #origins(leaf: Leaf, principal: Fixture, what: What, serverLabel: string): readonly Origin[] {
    const { arguments: given, now, request, client } = leaf.settings
    const document = this.#document
    const ofFixture = (input: string, own: string, kind: string, fixture: Fixture): Origin => ({
      input: [input],
      own,
      document: fixture.document,
      path: fixture.path,
      label: `fixtures.${kind}.${fixture.name}`,
    })
    const ofSetting = (input: readonly string[], setting: Setting | undefined): readonly Origin[] =>
      setting === undefined
        ? []
        : [{ input, own: null, document, path: setting.path, label: String(setting.path.at(-1)) }]
    const labels = this.#fixtures.find('servers', serverLabel)
    return [
      ofFixture('principal', 'id', 'principals', principal),
      ...(what.tool === null
        ? [{ input: ['target'], own: 'name', document, path: what.path, label: 'target' }]
        : [ofFixture('target', 'name', 'tools', what.tool)]),
      ...(labels === null ? [] : [ofFixture('server', 'name', 'servers', labels)]),
      ...(leaf.phase === 'list' ? [] : ofSetting(['arguments'], given)),
      ...ofSetting(['request', 'now_ns'], now),
      ...ofSetting(['request', 'time'], now),
      ...ofSetting(['request'], request),
      ...ofSetting(['client'], client),
    ]
  }

  #fixture(
    kind: 'principals' | 'tools' | 'servers',
    name: string,
    path: YamlPath,
    document = this.#document,
  ): Fixture {
    const fixture = this.#fixtures.find(kind, name)
    if (fixture !== null) return fixture
    const message = `there is no ${name} in fixtures.${kind}`
    throw new CaseProblem(
      document.error(path, { code: 'unknown_name', message, hint: this.#fixtures.hint(kind, name) }),
    )
  }

  #problem(path: YamlPath, message: string, hint: string | null = null): CaseProblem {
    return new CaseProblem(this.#document.error(path, { code: 'wrong_value', message, hint }))
  }
}

/** One name or several. */
function names(value: unknown): readonly string[] {
  return (Array.isArray(value) ? value : [value]).map((one) => String(asObject(one)['name'] ?? one))
}

function elementPath({ value, path }: Setting, index: number): YamlPath {
  return Array.isArray(value) ? [...path, index] : path
}
