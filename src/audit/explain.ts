/** A row -> what a person reads to understand it: sentence, deciding rule, the line that made the difference, the tree. Pure. */
import type { TraceRule, TraceStep } from '../trace/shape.ts'
import { lineOf, parseTrace, ruleName } from '../trace/shape.ts'
import type { ShownValue, TreeLine } from '../trace/tree.ts'
import { decidingRules, decisiveStep, traceLines, valuesOf } from '../trace/tree.ts'
import type { ExplainedPart } from './explain-parts.ts'
import { explainParts, listedSentenceOf } from './explain-parts.ts'
import { factsOf } from './facts.ts'
import type { StoredRow } from './query.ts'
import type { StoredPolicy } from './revisions.ts'
import type { DecisionFacts } from './sentence.ts'
import { sentenceOf } from './sentence.ts'

/** Everything `audit explain` prints. */
export interface Explanation {
  readonly id: string
  readonly request_id: string
  readonly outcome: string
  readonly sentence: string
  /** The rule that decided; null when no single one did. */
  readonly rule: {
    readonly name: string
    readonly at: string
    readonly title: string | null
    readonly role: RuleRole
  } | null
  /** The line that made the difference. */
  readonly line: DecisiveLine | null
  /** How much of a list was shown; null when none was cut. */
  readonly listed: string | null
  /** Of a call to `/mcp` that concerned all upstreams: what became of it at each. */
  readonly parts: readonly ExplainedPart[]
  /** What stands between the row and the whole truth: cuts, redactions, a policy that is gone. */
  readonly notes: readonly string[]
  readonly tree: readonly TreeLine[]
}

/** What the rule did; `closest` = it would have allowed the call, and came furthest of all such rules. */
export type RuleRole = 'denies' | 'allows' | 'closest' | 'ended'

/** The line that made the difference. */
export interface DecisiveLine {
  readonly at: string
  readonly expr: string
  readonly ok: boolean
  /** The evaluation ended in it. */
  readonly aborted: boolean
  readonly values: readonly ShownValue[]
  /** The line as it stood in the policy of that time; null when that is not stored. */
  readonly source: string | null
  /** With {@link ExplainOptions.source}: the lines around it, itself among them. */
  readonly around: readonly { readonly row: number; readonly text: string }[]
}

/** How much of it is wanted. */
export interface ExplainOptions {
  /** The policy that decided; null when it is not known. */
  readonly policy: StoredPolicy | null
  /** With the source lines of that policy. */
  readonly source: boolean
  /** Also the insides of rules that did not decide; otherwise they are folded to the line on which they failed. */
  readonly full: boolean
}

/** Explains a row. */
export function explainRow(row: StoredRow, options: ExplainOptions): Explanation {
  const facts = factsOf(row)
  const { dropped, ...why } = explainTrace(facts, options)
  return {
    id: row.id,
    request_id: row.request_id,
    outcome: row.outcome,
    sentence: sentenceOf(row, facts),
    ...why,
    listed: listedSentenceOf(facts),
    parts: explainParts(facts),
    notes: notesOf(row, facts, dropped, options.source && options.policy === null),
  }
}

/** What a trace tells about a decision. */
export interface TraceExplanation extends Pick<Explanation, 'rule' | 'line' | 'tree'> {
  /** How many of its rules and lines were cut away; null = it is whole. */
  readonly dropped: number | null
}

/** Explains a decision by its trace. */
export function explainTrace(
  facts: Pick<DecisionFacts, 'authz'>,
  { policy, source, full }: ExplainOptions,
): TraceExplanation {
  const trace = parseTrace(facts.authz?.trace)
  const verdict = { allow: facts.authz?.allow === true, failed: facts.authz?.failure !== undefined }
  const deciding = trace === null ? [] : decidingRules(trace.rules, verdict)
  const first = deciding[0] ?? null
  const step = first === null ? null : decisiveStep(first)
  const known = trace?.truncated === true ? null : policy
  return {
    rule: first === null ? null : { name: first.rule, at: first.at, title: first.title, role: roleOf(first) },
    line: step === null ? null : toLine(step, policy, source),
    dropped: trace?.truncated === true ? trace.dropped : null,
    tree:
      trace === null
        ? []
        : traceLines(trace.rules, {
            deciding,
            others: full ? 'whole' : 'folded',
            policy: known,
            source: source ? policy : null,
          }),
  }
}

function roleOf(rule: TraceRule): RuleRole {
  if (rule.outcome === 'aborted') return 'ended'
  if (rule.outcome !== 'defined') return 'closest'
  return ruleName(rule) === 'deny' ? 'denies' : 'allows'
}

/** Lines before and behind. */
const AROUND = 3

function toLine(step: TraceStep, policy: StoredPolicy | null, around: boolean): DecisiveLine {
  const { at, expr, ok, aborted } = step
  const [file, row] = lineOf(at)
  const lines = policy?.sources[file]?.split('\n')
  const source = row === null ? undefined : lines?.[row - 1]
  const from = Math.max(1, (row ?? 1) - AROUND)
  const near =
    !around || row === null || source === undefined ? [] : (lines?.slice(from - 1, row + AROUND) ?? [])
  return {
    ...{ at, expr, ok, aborted, values: valuesOf(step) },
    // Of an expression over several lines the first one tells too little.
    source: source === undefined || source.trim() === '' || expr.includes('\n') ? null : source.trim(),
    around: near.map((text, index) => ({ row: from + index, text })),
  }
}

function notesOf(
  row: StoredRow,
  facts: DecisionFacts,
  dropped: number | null,
  sourceGone: boolean,
): readonly string[] {
  const { stored, authz } = facts
  const notes: string[] = []
  if (dropped !== null) notes.push(`The trace was cut: ${dropped} of its rules and lines are not kept.`)
  if (stored !== undefined) {
    notes.push(
      `The row is kept ${label(stored.as)}: ${stored.why ?? 'unknown'}${stored.sqlstate === undefined ? '' : ` (SQLSTATE ${stored.sqlstate})`}.`,
    )
  }
  notes.push(...redactionNotes(row.redaction))
  if (authz === undefined && stored === undefined && row.outcome !== 'gap')
    notes.push('The policy was not asked.')
  else if (authz !== undefined && authz.trace === undefined && authz.policy !== undefined)
    notes.push('The row holds no trace.')
  else if (isCompact(authz?.trace))
    notes.push('The trace is stored compactly, and the policy it refers to is not stored any more.')
  if (sourceGone)
    notes.push('The policy of that time is not stored any more; these are the lines of the trace.')
  return notes
}

/** Those that could be expanded are, before they come here. */
function isCompact(trace: unknown): boolean {
  return typeof trace === 'object' && trace !== null && 'compact' in trace
}

function redactionNotes(redaction: string | null): readonly string[] {
  if (redaction === null) return []
  const sections = Object.entries(
    JSON.parse(redaction) as Record<string, Record<string, unknown> | undefined>,
  )
  const having = (member: string) =>
    sections.filter(([, note]) => note?.[member] !== undefined).map(([name]) => name)
  const told: readonly (readonly [string, readonly string[]])[] = [
    ['Secrets were replaced in', having('redacted_count')],
    ['Cut to size', having('cut_count')],
    [`Not kept, as ${withheldBy(redaction)} asks`, having('withheld')],
    ['Left out, because it could not be made safe', redactionFailures(redaction)],
  ]
  return told.filter(([, names]) => names.length > 0).map(([text, names]) => `${text}: ${names.join(', ')}.`)
}

function withheldBy(redaction: string): string {
  const { payload } = JSON.parse(redaction) as { payload?: { by?: unknown } }
  return payload?.by === 'configuration' ? 'the configuration' : 'the policy'
}

function redactionFailures(redaction: string): readonly string[] {
  const { redaction_failed: failed } = JSON.parse(redaction) as { redaction_failed?: unknown }
  return Array.isArray(failed) ? failed.map(String) : []
}

function label(as: string | undefined): string {
  return as === 'placeholder' ? 'as a placeholder' : 'without payload and trace'
}
