/**
 * What tables expect -> what the policy says now, written into the tables. Nothing is trusted to have been written right: the
 * changed table is read again, and must expect of every combination what it is meant to.
 */
import type { PolicyError } from '../compiler.ts'
import { canonicalText } from './canonical.ts'
import type { Verdict } from './expectation.ts'
import { mismatches } from './expectation.ts'
import { asObject } from './fixtures.ts'
import type { RanCase, TestResult } from './report.ts'
import type { TestCase } from './table.ts'
import type { Edit, Hunk } from './table-edit.ts'
import {
  addEntries,
  applyEdits,
  hunksOf,
  NotEditable,
  replaceEntry,
  SELECTORS,
  setMembers,
} from './table-edit.ts'
import { readTables } from './table-reader.ts'
import type { TableCheck } from './table-schema.ts'
import type { YamlPath } from './yaml-document.ts'

/** A table to be written. */
export interface TableUpdate {
  readonly file: string
  readonly before: string
  readonly after: string
  readonly hunks: readonly Hunk[]
  /** Tests that hold with it. */
  readonly updated: readonly TestResult[]
}

/** A failing test that no table can make hold, or not by itself. */
export interface NotUpdated {
  readonly result: TestResult
  readonly reason: string
}

/** What `--update` does. */
export interface UpdatePlan {
  readonly tables: readonly TableUpdate[]
  readonly left: readonly NotUpdated[]
}

/** One combination of a case. */
interface Combination {
  readonly test: TestCase
  /** null: what is expected stays as it is. */
  readonly failing: RanCase | null
}

/** What has to change in one case. */
interface LeafEdits {
  readonly failing: readonly RanCase[]
  readonly edits: readonly Edit[]
}

/**
 * @param tables texts of all tables by file, as they were read for the run
 * @param ran the cases that ran
 */
export function planUpdates(
  tables: Readonly<Record<string, string>>,
  ran: readonly RanCase[],
  check: TableCheck,
): UpdatePlan {
  const left: NotUpdated[] = []
  const failing = ran.filter(({ result }) => result.outcome === 'failed')
  const usable = failing.filter((one) => {
    const reason = unusable(one)
    if (reason !== null) left.push({ result: one.result, reason })
    return reason === null
  })
  const files = [...new Set(usable.map(({ result }) => result.place.file))]
  const updates = files.flatMap((file) => {
    const known = new Map(
      usable.filter(({ result }) => result.place.file === file).map((one) => [keyOf(one.test), one]),
    )
    const all = casesOf(readTables(tables, check).cases, file)
    const planned = planFile({ file, tables, check, all, known })
    left.push(...planned.left)
    return planned.update === null ? [] : [planned.update]
  })
  return { tables: updates, left }
}

function unusable({ got, result }: RanCase): string | null {
  if (got === null || result.failure === null || result.failure.mismatches.length === 0)
    return 'what it expects is as it should be'
  if (got.failure !== null) return 'the evaluation itself failed: mend the policy'
  return null
}

interface FilePlan {
  readonly file: string
  readonly tables: Readonly<Record<string, string>>
  readonly check: TableCheck
  readonly all: readonly TestCase[]
  readonly known: ReadonlyMap<string, RanCase>
}

function planFile(plan: FilePlan): {
  readonly update: TableUpdate | null
  readonly left: readonly NotUpdated[]
} {
  const leaves = leavesOf(plan)
  const made = leaves.map((leaf) => ({ leaf, edits: tryEdits(leaf) }))
  const possible = made.flatMap(({ leaf, edits }) => (edits === null ? [] : [toLeafEdits(leaf, edits)]))
  const good = holds(plan, possible) ? possible : possible.filter((one) => holds(plan, [one]))
  const accepted = holds(plan, good) ? good : []
  const done = new Set(accepted.flatMap(({ failing }) => failing))
  const left = leaves
    .flatMap((leaf) => leaf.flatMap(({ failing }) => failing ?? []))
    .filter((one) => !done.has(one))
    .map(({ result }) => ({ result, reason: 'it is written in a way that has to be changed by hand' }))
  if (accepted.length === 0) return { update: null, left }
  const before = plan.tables[plan.file] ?? ''
  const edits = accepted.flatMap((one) => one.edits)
  const after = applyEdits(before, edits)
  const updated = [...done].map(({ result }) => result)
  return { update: { file: plan.file, before, after, hunks: hunksOf(before, edits), updated }, left }
}

function leavesOf({ all, known }: FilePlan): readonly (readonly Combination[])[] {
  const leaves = new Map<string, Combination[]>()
  for (const test of all) {
    const key = JSON.stringify(test.written.path)
    leaves.set(key, [...(leaves.get(key) ?? []), { test, failing: known.get(keyOf(test)) ?? null }])
  }
  return [...leaves.values()].filter((leaf) => leaf.some(({ failing }) => failing !== null))
}

function toLeafEdits(leaf: readonly Combination[], edits: readonly Edit[]): LeafEdits {
  return { failing: leaf.flatMap(({ failing }) => failing ?? []), edits }
}

function tryEdits(leaf: readonly Combination[]): readonly Edit[] | null {
  try {
    return editsOf(leaf)
  } catch (error) {
    if (error instanceof NotEditable) return null
    throw error
  }
}

/** An expectation whose combinations all changed alike is changed in its place, others are taken apart. */
function editsOf(leaf: readonly Combination[]): readonly Edit[] {
  const [first] = leaf
  if (first === undefined) return []
  const { document, path } = first.test.written
  const entries = new Map<string, Combination[]>()
  for (const one of leaf) {
    const key = JSON.stringify(one.test.written.entry)
    entries.set(key, [...(entries.get(key) ?? []), one])
  }
  const changed = [...entries.values()].filter((group) => group.some(({ failing }) => failing !== null))
  const edits = changed.flatMap((group) => {
    const entry = group[0]?.test.written.entry ?? null
    if (entry === null) return []
    const members = group.map((one) => newMembers(one, entry))
    const [only] = members
    const isOne =
      new Set(members.map(canonicalText)).size === 1 && group.every(({ failing }) => failing !== null)
    if (isOne && only !== undefined) return setMembers(document, entry, only)
    return replaceEntry(document, entry, apart(leaf, group, entry))
  })
  const unlisted = changed
    .flat()
    .filter(({ test, failing }) => test.written.entry === null && failing !== null)
  if (unlisted.length === 0) return edits
  const isWhole = unlisted.length === leaf.length
  const added = isWhole ? alike(leaf, unlisted) : select(leaf, unlisted.map(toWhole))
  return [...edits, ...addEntries(document, path, added)]
}

/** One expectation without names where all combinations say the same. */
function alike(leaf: readonly Combination[], group: readonly Combination[]): readonly object[] {
  const made = group.map(toWhole)
  const texts = new Set(made.map(({ members }) => canonicalText(members)))
  return texts.size === 1 ? made.slice(0, 1).map(({ members }) => members) : select(leaf, made)
}

type Members = Readonly<Record<string, unknown>>

/** What an expectation has to say differently. */
function newMembers({ test, failing }: Combination, entry: YamlPath): Members {
  if (failing === null) return {}
  const { got, result } = failing
  const changes = (result.failure?.mismatches ?? []).filter(({ member }) => member !== 'allow')
  const members = Object.fromEntries(changes.map(({ member, got: value }) => [member, value]))
  const own = asObject(valueAt({ test, failing }, entry))
  const after = { ...own, ...members }
  const names = (name: string) => (Array.isArray(after[name]) ? (after[name] as readonly unknown[]) : [])
  const implied = names('allowed_by').length > 0 && names('denied_by').length === 0
  const says = (after['allow'] ?? implied) === true
  return says === got?.allow ? members : { allow: got?.allow === true, ...members }
}

interface Whole {
  readonly one: Combination
  readonly members: Members
}

/** An expectation's combinations with what each of them has to say. */
function apart(
  leaf: readonly Combination[],
  group: readonly Combination[],
  entry: YamlPath,
): readonly object[] {
  return select(
    leaf,
    group.map((one) => {
      const own = Object.entries(asObject(valueAt(one, entry))).filter(([name]) => !SELECTORS.has(name))
      return { one, members: { ...Object.fromEntries(own), ...newMembers(one, entry) } }
    }),
  )
}

/** Of a combination that nothing was expected of. */
function toWhole(one: Combination): Whole {
  const got = one.failing?.got
  return { one, members: got === undefined || got === null ? { allow: false } : membersOf(got) }
}

function membersOf({ allow, allowedBy, deniedBy }: Verdict): Members {
  return allow ? { allow, allowed_by: [...allowedBy].sort() } : { allow, denied_by: [...deniedBy].sort() }
}

/** Combinations that say the same share an expectation, as far as names can tell them from the others. */
function select(leaf: readonly Combination[], wholes: readonly Whole[]): readonly object[] {
  const several = (of: (test: TestCase) => string) => new Set(leaf.map(({ test }) => of(test))).size > 1
  const isNamed = {
    principal: several(({ written }) => written.choice.principal),
    what: several(({ written }) => written.choice.what),
    server: several(({ labels }) => labels[2] ?? ''),
  }
  const byWhat = new Map<string, { readonly whole: Whole; readonly whats: string[] }>()
  for (const whole of wholes) {
    const { choice } = whole.one.test.written
    const key = canonicalText([choice.principal, choice.server, whole.members])
    const known = byWhat.get(key)
    if (known === undefined) byWhat.set(key, { whole, whats: [choice.what] })
    else known.whats.push(choice.what)
  }
  const byPrincipal = new Map<
    string,
    { readonly whole: Whole; readonly whats: string[]; readonly principals: string[] }
  >()
  for (const { whole, whats } of byWhat.values()) {
    const { choice } = whole.one.test.written
    const key = canonicalText([choice.server, whats, whole.members])
    const known = byPrincipal.get(key)
    if (known === undefined) byPrincipal.set(key, { whole, whats, principals: [choice.principal] })
    else known.principals.push(choice.principal)
  }
  return [...byPrincipal.values()].map(({ whole, whats, principals }) => {
    const { facts, written } = whole.one.test
    const what = facts.target?.kind === 'tool' ? 'tool' : 'target'
    return {
      ...(isNamed.principal ? { principal: oneOrAll(principals) } : {}),
      ...(isNamed.what ? { [what]: oneOrAll(whats) } : {}),
      ...(isNamed.server ? { server: written.choice.server } : {}),
      ...whole.members,
    }
  })
}

function oneOrAll(names: readonly string[]): unknown {
  return names.length === 1 ? names[0] : names
}

function valueAt({ test }: Combination, path: YamlPath): unknown {
  return path.reduce<unknown>(
    (value, step) => (Array.isArray(value) ? value[Number(step)] : asObject(value)[String(step)]),
    test.written.document.value,
  )
}

/** Whether the changed table is right: what was to change holds, everything else is expected as before. */
function holds({ file, tables, check, all, known }: FilePlan, leaves: readonly LeafEdits[]): boolean {
  const changed = new Set(leaves.flatMap(({ failing }) => failing.map(({ test }) => keyOf(test))))
  const text = applyEdits(
    tables[file] ?? '',
    leaves.flatMap(({ edits }) => edits),
  )
  const read = readTables({ ...tables, [file]: text }, check)
  const errors: readonly PolicyError[] = read.errors
  const cases = casesOf(read.cases, file)
  if (errors.length > 0 || cases.length !== all.length) return false
  return cases.every((after, index) => {
    const before = all[index]
    if (before === undefined || keyOf(before) !== keyOf(after)) return false
    const got = known.get(keyOf(after))?.got ?? null
    if (changed.has(keyOf(after)) && got !== null) return mismatches(after.expect, got).length === 0
    return canonicalText(after.expect) === canonicalText(before.expect)
  })
}

function casesOf(cases: readonly TestCase[], file: string): readonly TestCase[] {
  return cases.filter(({ place }) => place.file === file)
}

function keyOf({ written, labels }: TestCase): string {
  return JSON.stringify([written.path, labels])
}
