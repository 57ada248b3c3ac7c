/** What became of a list's elements, and of a call to `/mcp` at each upstream, in a line each. Pure; the text is not escaped. */
import type { DecisionFacts, ListedFacts, PartFacts } from './sentence.ts'

/** One upstream's share in an answer that was put together. */
export interface ExplainedPart {
  readonly server: string
  readonly sentence: string
}

/** Names of hidden elements that are said; the row has more. */
const MAX_HIDDEN = 5

/** A line for each upstream that the call concerned; none for a call to one. */
export function explainParts({ parts = [] }: DecisionFacts): readonly ExplainedPart[] {
  return parts.map((part) => ({ server: part.server?.name ?? '?', sentence: partSentence(part) }))
}

/** How many elements of a list were shown, and which were not; null when there was no list to cut. */
export function listedSentenceOf({ listed, listed_total: total }: ListedFacts): string | null {
  if (listed === undefined || listed.length === 0) return null
  const hidden = listed.filter(({ allow }) => allow !== true)
  const known = listed.length - hidden.length
  const shown =
    total === undefined || total === listed.length
      ? `${known} of ${listed.length} shown`
      : `${known} of the first ${listed.length} shown, of ${total}`
  if (hidden.length === 0) return shown
  const named = hidden.slice(0, MAX_HIDDEN).map(({ name, denied_by: reasons }) => {
    const why = reasons === undefined || reasons.length === 0 ? 'no rule allows it' : reasons.join(', ')
    return `${name ?? '?'} (${why})`
  })
  const more = hidden.length - named.length
  return `${shown}; hidden: ${named.join(', ')}${more === 0 ? '' : ` and ${more} more`}`
}

function partSentence(part: PartFacts): string {
  const { refused, detail, authz } = part
  const told = detail === undefined ? '' : `: ${detail}`
  if (refused === 'killed') return `stopped by a kill switch${told}`
  if (authz?.failure !== undefined)
    return `hidden: the policy gave no decision (${label(authz.failure)})${told}`
  if (authz?.allow === false) return `hidden${because(authz.denied_by) || ': no rule allows it'}`
  if (refused !== undefined) return `left out: ${label(refused)}${told}`
  const list = listedSentenceOf(part)
  return `has a share${because(authz?.allowed_by)}${list === null ? '' : `: ${list}`}${answered(part)}`
}

function answered({ upstream }: PartFacts): string {
  if (typeof upstream?.json_rpc_error !== 'number') return ''
  return `; it answered with error ${upstream.json_rpc_error}`
}

function because(reasons: readonly string[] | undefined): string {
  return reasons === undefined || reasons.length === 0 ? '' : `, because of ${reasons.join(', ')}`
}

function label(kind: string): string {
  return kind.replaceAll('_', ' ')
}
