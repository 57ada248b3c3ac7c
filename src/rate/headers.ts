/**
 * The RateLimit and RateLimit-Policy fields of an answer, as draft-ietf-httpapi-ratelimit-headers-10 §3 and §4 have them.
 *
 * Both are lists of strings with integer parameters, the simplest corner of RFC 9651, and names are `[a-z0-9-]`, so
 * nothing can need escaping: two templates do, and no library for the rest of the grammar is taken in.
 */
import type { ChargeReport, LimitReport } from '../gateway/limit-types.ts'

/** Field name in lower case -> value. Empty when there is nothing to tell. */
export type RateLimitFields = Readonly<Record<string, string>>

/** Most limits named in one answer. */
const MAX_ITEMS = 3

/**
 * The tightest limits of a call, tightest first: those that refused, then by how many more calls of this cost they have
 * room for. Limits that are only watched are not shown. Of limits with one name only the tightest is, because a name
 * joins the two fields. `Retry-After` is not made here: it comes with the refusal.
 */
export function toRateLimitFields(report: ChargeReport): RateLimitFields {
  const names = new Set<string>()
  const shown = report.limits
    .filter((limit) => limit.mode === 'enforce')
    .sort(byTightness)
    .filter(({ name }) => !names.has(name) && names.add(name))
    .slice(0, MAX_ITEMS)
  if (shown.length === 0) return {}
  return {
    'ratelimit-policy': shown.map(toPolicyItem).join(', '),
    ratelimit: shown.map(toServiceItem).join(', '),
  }
}

function byTightness(a: LimitReport, b: LimitReport): number {
  if (a.refused !== b.refused) return a.refused ? -1 : 1
  const left = Math.floor(a.remaining / a.cost) - Math.floor(b.remaining / b.cost)
  return left === 0 ? b.reset_ms - a.reset_ms : left
}

/** A month has no fixed length in seconds, so its window is left out. */
function toPolicyItem({ name, limit, window_s: windowS, calendar }: LimitReport): string {
  return `"${name}";q=${limit}${calendar === 'month' ? '' : `;w=${windowS}`}`
}

function toServiceItem({ name, remaining, reset_ms: resetMs }: LimitReport): string {
  return `"${name}";r=${remaining};t=${Math.ceil(resetMs / 1000)}`
}
