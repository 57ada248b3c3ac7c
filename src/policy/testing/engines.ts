/** `--engine both`: what OPA's interpreter, topdown, decides on the cases of tables, compared with what the module did. */
import { toAskedCall } from '../asked-call.ts'
import type { Decision } from '../decision.ts'
import { MalformedDecision, parseDecision, parseVerdicts } from '../decision.ts'
import type { PolicyLimits } from '../engine.ts'
import { nameAsSeen, toPolicyInput } from '../input.ts'
import { canonicalText } from './canonical.ts'
import type { Verdict } from './expectation.ts'
import type { RanCase, TestResult } from './report.ts'
import type { TestCase } from './table.ts'
import type { Opinion, TopdownSubject } from './topdown.ts'
import { DIFFERENCE_NOTES, opinionsOn } from './topdown.ts'

/** Many cases share a query, for the sources are compiled anew for each. */
const MAX_CASES_IN_QUERY = 100
const MAX_INPUT_CHARACTERS = 1_000_000

/** The cases again; those fail on which the engines differ, whatever they say. */
export async function compareEngines(
  cases: readonly RanCase[],
  subject: TopdownSubject,
  limits: PolicyLimits,
): Promise<readonly RanCase[]> {
  const differences = new Map<RanCase, string>()
  for (const group of groups(cases.filter((one) => isAsked(one, limits)))) {
    const opinions = await opinionsOn(subject, {
      references: group.map(({ test }) => ({ path: pathOf(test), inputText: inputOf(test, limits) })),
      nowNs: group[0]?.test.nowNs ?? 0n,
    })
    group.forEach((one, index) => {
      const difference = compare(one, opinions[index] ?? { kind: 'undefined' })
      if (difference !== null) differences.set(one, difference)
    })
  }
  return cases.map((one) => {
    const difference = differences.get(one)
    return difference === undefined ? one : { ...one, result: failed(one, difference) }
  })
}

/** What never reached the module, or was too much for it, says nothing about the engines. */
function isAsked({ test, got }: RanCase, limits: PolicyLimits): boolean {
  if (got === null || got.failure?.kind === 'policy_budget') return false
  return inputOf(test, limits) !== null
}

function inputOf({ facts, phase, nowNs }: TestCase, limits: PolicyLimits): string | null {
  const call = toAskedCall(facts)
  const targets = call.target === null ? [] : [call.target]
  const subject = phase === 'call' ? ({ phase } as const) : ({ phase, targets } as const)
  const asked = phase === 'call' ? call : { ...call, target: null }
  const input = toPolicyInput(asked, subject, { nowNs, maxBytes: limits.maxInputBytes })
  return input.fault === null ? new TextDecoder().decode(input.bytes) : null
}

function pathOf({ phase }: TestCase): string {
  return phase === 'call' ? 'data.gateway.decision' : 'data.gateway.visible'
}

/** Cases of one moment, for the clock is that of the query; in queries of a bounded size. */
function groups(cases: readonly RanCase[]): readonly (readonly RanCase[])[] {
  const byMoment = new Map<bigint, RanCase[][]>()
  for (const one of cases) {
    const made = byMoment.get(one.test.nowNs) ?? [[]]
    byMoment.set(one.test.nowNs, made)
    const last = made.at(-1) ?? []
    const size = [...last, one].reduce((sum, { inputText }) => sum + (inputText?.length ?? 0), 0)
    if (last.length < MAX_CASES_IN_QUERY && (last.length === 0 || size <= MAX_INPUT_CHARACTERS))
      last.push(one)
    else made.push([one])
  }
  return [...byMoment.values()].flat().filter((group) => group.length > 0)
}

type Said = Partial<Decision> | { readonly failure: string }

function compare({ test, got }: RanCase, opinion: Opinion): string | null {
  if (got === null) return null
  const [wasm, topdown] = [saidBy(got), readOpinion(opinion, test)]
  if (canonicalText(wasm) === canonicalText(topdown)) return null
  const because = opinion.kind === 'error' ? ` (${opinion.message})` : ''
  return `Wasm gives ${JSON.stringify(wasm)}, topdown gives ${JSON.stringify(topdown)}${because}`
}

function saidBy({ failure, ...said }: Verdict): Said {
  if (failure !== null) return { failure: failure.kind }
  const { allow, allowedBy, deniedBy, limits, obligations, masks, maskFailure } = said
  const verdict = { allow, allowedBy, deniedBy }
  if (!limits || !obligations || !masks || maskFailure === undefined) return verdict
  return { ...verdict, limits, obligations, masks, maskFailure }
}

/** As the gateway reads a decision: what it would refuse, it refuses of both engines. */
function readOpinion(opinion: Opinion, { phase, facts: { target } }: TestCase): Said {
  if (opinion.kind !== 'value') return { failure: 'policy_error' }
  try {
    if (phase === 'call') return parseDecision(opinion.value)
    return parseVerdicts(opinion.value, target === null ? [] : [nameAsSeen(target)])[0] ?? {}
  } catch (error) {
    if (error instanceof MalformedDecision) return { failure: 'policy_malformed' }
    throw error
  }
}

function failed({ result, got }: RanCase, difference: string): TestResult {
  const notes = [`the engines differ: ${difference}`, ...DIFFERENCE_NOTES]
  const before = result.failure ?? { mismatches: [], got, lines: [], why: null, notes: [] }
  return { ...result, outcome: 'failed', failure: { ...before, notes: [...notes, ...before.notes] } }
}
