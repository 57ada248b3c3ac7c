/**
 * The trace of an evaluation against topdown's own, place by place: did the definition or expression there hold, fail, or
 * was it not reached?
 */
import type { OracleLocation } from '../../../src/policy/compiler.ts'
import type { Dictionary } from '../../../src/policy/dictionary.ts'
import type { HostRun } from '../../../src/policy/host.ts'
import { PolicyFault } from '../../../src/policy/host-fault.ts'
import type { Recording } from '../../../src/policy/host-values.ts'
import { prepareDictionary } from '../../../src/policy/trace-dictionary.ts'
import type { RuleNode, StepNode } from '../../../src/policy/trace-tree.ts'
import { buildTree } from '../../../src/policy/trace-tree.ts'

/** What became of a place: held at least once; tried without ever holding; never tried. */
export type Status = 'succeeded' | 'failed' | 'not reached'

/** A place on which the two do not agree. */
export interface StepDifference {
  readonly kind: 'rule' | 'expr'
  /** `file:row:col` */
  readonly at: string
  readonly text: string
  readonly wasm: Status
  readonly topdown: Status
}

/** How far two traces agree. */
export interface Agreement {
  readonly rules: number
  readonly exprs: number
  readonly differences: readonly StepDifference[]
}

interface Seen {
  held: boolean
  failed: boolean
}

/** The steps of a run that ended by itself and was recorded in full, and what is wrong with its events. */
export function compareSteps(
  run: HostRun | PolicyFault,
  dictionary: Dictionary | null,
  locations: readonly OracleLocation[] | null,
): { readonly malformed: string | null; readonly steps: Agreement | null } {
  if (dictionary === null) return { malformed: 'no dictionary', steps: null }
  if (run instanceof PolicyFault) return { malformed: null, steps: null }
  const recording = run.recording()
  if (recording.dropped > 0) return { malformed: null, steps: null }
  const malformed = checkEvents(recording, dictionary, run.fault !== null)
  if (run.fault !== null || locations === null || malformed !== null) return { malformed, steps: null }
  return {
    malformed,
    steps: agreement(dictionary, seenInTrace(recording, dictionary), seenByTopdown(locations)),
  }
}

/** Every enter has its leave, nothing stands outside a frame, an expression belongs to the definition around it. */
function checkEvents({ events }: Recording, dictionary: Dictionary, aborted: boolean): string | null {
  const owners = new Map(dictionary.exprs.map((probe) => [probe.id, probe.rule]))
  const open: number[] = []
  for (const { op, id } of events) {
    if (op === 'enter') open.push(id)
    else if (op === 'leave') {
      if (open.pop() !== id) return `leave${id} without its enter`
    } else if (open.at(-1) !== owners.get(id)) return `${op}${id} outside its definition`
  }
  return open.length === 0 || aborted ? null : 'definitions were not left'
}

function agreement(dictionary: Dictionary, wasm: Map<string, Seen>, topdown: Map<string, Seen>): Agreement {
  const differences: StepDifference[] = []
  const compare = (kind: 'rule' | 'expr', at: string, text: string) => {
    const [ours, theirs] = [statusOf(wasm.get(`${kind} ${at}`)), statusOf(topdown.get(`${kind} ${at}`))]
    if (ours !== theirs) differences.push({ kind, at, text, wasm: ours, topdown: theirs })
  }
  const rules = new Map(dictionary.rules.map((probe) => [placeOf(probe), probe.text]))
  const exprs = new Map(
    dictionary.exprs.filter(({ begin }) => !begin).map((probe) => [placeOf(probe), probe.text]),
  )
  for (const [at, text] of rules) compare('rule', at, text)
  for (const [at, text] of exprs) compare('expr', at, text)
  return { rules: rules.size, exprs: exprs.size, differences }
}

function statusOf(seen: Seen | undefined): Status {
  if (seen === undefined || (!seen.held && !seen.failed)) return 'not reached'
  return seen.held ? 'succeeded' : 'failed'
}

function placeOf({
  file,
  row,
  col,
}: {
  readonly file: string
  readonly row: number
  readonly col: number
}): string {
  return `${file}:${row}:${col}`
}

function seenByTopdown(locations: readonly OracleLocation[]): Map<string, Seen> {
  return new Map(
    locations.map(({ kind, held, failed, ...at }) => [`${kind} ${placeOf(at)}`, { held, failed }]),
  )
}

function seenInTrace(recording: Recording, dictionary: Dictionary): Map<string, Seen> {
  const world = { input: null, data: null, rules: null, budget: { characters: 0 } }
  const seen = new Map<string, Seen>()
  const note = (key: string, held: boolean) => {
    const entry = seen.get(key) ?? { held: false, failed: false }
    if (held) entry.held = true
    else entry.failed = true
    seen.set(key, entry)
  }
  const rule = (node: RuleNode) => {
    note(`rule ${placeOf(node.rule.probe)}`, node.outcome === 'defined')
    node.steps.forEach(step)
    node.rules.forEach(rule)
  }
  const step = (node: StepNode) => {
    note(`expr ${placeOf(node.expr.probe)}`, node.ok)
    node.steps.forEach(step)
    node.rules.forEach(rule)
  }
  buildTree(prepareDictionary(dictionary), recording, world).forEach(rule)
  return seen
}
