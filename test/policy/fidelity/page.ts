/** docs/policies/fidelity.md: what the survey of OPA's cases has found. */
import { fileURLToPath } from 'node:url'
import { OMITTED_BUILTINS } from '../../../src/policy/builtins/omitted.ts'
import type { Cause } from './causes.ts'
import { OUTCOME_CAUSES } from './causes.ts'
import type { StepVerdict, Surveyed, Verdict } from './survey.ts'

/** Where the page stands. */
export const FIDELITY_PAGE = fileURLToPath(new URL('../../../docs/policies/fidelity.md', import.meta.url))

/** Longest text of an outcome in a table. */
const MAX_TEXT = 120
const MAX_EXAMPLES = 3

/** The page as text. */
export function fidelityPage(surveyed: readonly Surveyed[]): string {
  const count = (kind: Verdict['kind']) => surveyed.filter(({ verdict }) => verdict.kind === kind).length
  const [same, known, refused, failed] = [count('same'), count('known'), count('refused'), count('failed')]
  return `${[
    '# Fidelity: is this really Rego?',
    '',
    "The gateway runs policies as WebAssembly that OPA's own compiler has made. This page tells where that differs from",
    "topdown, OPA's interpreter. `npm run fidelity` writes it, and a test fails when it is stale.",
    '',
    "Every case of OPA's own suite is evaluated three ways: by the instrumented module that would serve, by the plain one,",
    'and by topdown (with rule indexing and early exit off). Results are compared with all digits and in their order. Where',
    "OPA's Wasm has a builtin that differs from topdown, the module calls the host instead ([builtins](builtins.md)).",
    '',
    '| cases | |',
    '| --- | ---: |',
    `| all | ${surveyed.length} |`,
    `| the same outcome three ways | ${same} |`,
    `| differ for a known cause | ${known} |`,
    `| refused when the policy is built | ${refused} |`,
    `| differ for no known cause | ${failed} |`,
    '',
    '## Outcomes that differ',
    '',
    "A cause without cases was found by random policies (`npm run fuzz`), not by OPA's suite. Where Wasm by itself would be",
    'different, the compiler has the module do as topdown does: sets and objects that become an array are gone through in',
    'their order, interpolated strings show values as OPA prints them, a key of the data is text (`data.ports[443]`).',
    '',
    ...knownSection(surveyed),
    '## Refused',
    '',
    ...refusedSection(surveyed),
    '## The trace',
    '',
    ...traceSection(surveyed),
  ].join('\n')}\n`
}

function knownSection(surveyed: readonly Surveyed[]): readonly string[] {
  const byCause = new Map<Cause, string[]>()
  for (const { note, verdict } of surveyed) {
    if (verdict.kind === 'known') push(byCause, verdict.cause, `| ${cell(note)} | ${cell(verdict.text)} |`)
  }
  const causes = [...new Set([...byCause.keys(), ...OUTCOME_CAUSES])]
  return causes.flatMap((cause) => {
    const rows = byCause.get(cause) ?? []
    const table = rows.length === 0 ? [] : ['| case | outcomes |', '| --- | --- |', ...rows, '']
    return [...causeLines(cause, rows.length), ...table]
  })
}

function refusedSection(surveyed: readonly Surveyed[]): readonly string[] {
  const byBuiltin = new Map<string, number>()
  const others: string[] = []
  for (const { note, verdict } of surveyed) {
    if (verdict.kind !== 'refused') continue
    const { builtin, text } = verdict
    if (builtin !== null && OMITTED_BUILTINS.has(builtin))
      byBuiltin.set(builtin, (byBuiltin.get(builtin) ?? 0) + 1)
    else others.push(`- ${cell(note)}: ${cell(text)}`)
  }
  const rows = [...byBuiltin].sort().map(([name, cases]) => {
    const omitted = OMITTED_BUILTINS.get(name)
    return `| \`${name}\` | ${cases} | ${omitted?.reason ?? ''} | ${omitted?.alternative ?? ''} |`
  })
  return [
    'A builtin that the host lacks is an error when the policy is built, never at a decision.',
    '',
    '| builtin | cases | reason | instead |',
    '| --- | ---: | --- | --- |',
    ...rows,
    '',
    ...(others.length === 0 ? [] : ['Cases that cannot be asked as they stand:', '', ...others, '']),
  ]
}

function traceSection(surveyed: readonly Surveyed[]): readonly string[] {
  const steps = surveyed.flatMap(({ note, verdict }) => {
    const found = 'steps' in verdict ? verdict.steps : null
    return found === null ? [] : [{ note, ...found }]
  })
  const byCause = new Map<Cause, string[]>()
  for (const { note, differences } of steps) {
    for (const { cause, text, wasm, topdown } of differences) {
      push(byCause, cause, `| ${cell(note)} | \`${cell(text)}\` | ${wasm} | ${topdown} |`)
    }
  }
  return [
    'For every definition and every expression: succeeded (held at least once), failed (tried, never held), or not reached. The',
    "gateway's trace is compared with topdown's own, place by place, for the cases that end without an error.",
    '',
    `| ${steps.length} cases | places | agree |`,
    '| --- | ---: | ---: |',
    `| definitions | ${total(steps, 'rules')} | ${total(steps, 'rules') - differing(steps, 'rule')} |`,
    `| expressions | ${total(steps, 'exprs')} | ${total(steps, 'exprs') - differing(steps, 'expr')} |`,
    '',
    ...[...byCause].flatMap(([cause, rows]) => [
      ...causeLines(cause, rows.length),
      '| case | where | trace | topdown |',
      '| --- | --- | --- | --- |',
      ...rows.slice(0, MAX_EXAMPLES),
      ...(rows.length > MAX_EXAMPLES ? [`| and ${rows.length - MAX_EXAMPLES} more | | | |`] : []),
      '',
    ]),
  ]
}

function causeLines({ title, reason, alternative, link }: Cause, count: number): readonly string[] {
  return [
    `### ${title} (${count})`,
    '',
    `Why: ${reason} ([more](${link})).`,
    '',
    `Instead: ${alternative}.`,
    '',
  ]
}

function total(steps: readonly StepVerdict[], kind: 'rules' | 'exprs'): number {
  return steps.reduce((sum, step) => sum + step[kind], 0)
}

function differing(steps: readonly StepVerdict[], kind: 'rule' | 'expr'): number {
  return steps.reduce(
    (sum, { differences }) => sum + differences.filter((one) => one.kind === kind).length,
    0,
  )
}

function push(map: Map<Cause, string[]>, cause: Cause, row: string): void {
  const rows = map.get(cause)
  if (rows === undefined) map.set(cause, [row])
  else rows.push(row)
}

function cell(text: string): string {
  const line = text.replace(/\s+/g, ' ')
  const short = line.length > MAX_TEXT ? `${line.slice(0, MAX_TEXT)} …` : line
  return short.replaceAll('|', '\\|')
}
