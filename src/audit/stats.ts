/** The log in numbers: who was denied, why, by which rule; how long calls take. */
import type { Pool } from 'pg'
import type { Outcome } from '../errors.ts'
import type { RowFilter } from './filter.ts'
import { toCondition } from './filter.ts'

/** What attempts can be counted by. */
export const DIMENSIONS = ['outcome', 'principal', 'tenant', 'tool', 'reason', 'rule'] as const
/** What attempts are counted by. `reason` and `rule` count only attempts that were not allowed. */
export type Dimension = (typeof DIMENSIONS)[number]

/** One line of a count. */
export interface Count {
  /** null: attempts that have none, such as a denial that no rule made. */
  readonly key: string | null
  readonly attempts: number
  /** Of all attempts that are counted, 0 to 1. One that has several reasons counts for each. */
  readonly share: number
  readonly allowed: number
  /** Refused by the gateway: denied, killed or limited. */
  readonly denied: number
  /** Milliseconds. */
  readonly p50_ms: number | null
  readonly p95_ms: number | null
}

/** Counts by one dimension, the largest first. */
export interface Counts {
  readonly by: Dimension
  /** All that were counted. */
  readonly attempts: number
  /** How many keys there are; `counts` may hold fewer. */
  readonly keys: number
  readonly counts: readonly Count[]
}

/** Outcomes of attempts that the gateway refused on somebody's behalf: who has set a policy, a limit or a switch. */
const DENIED = ['denied_admit', 'denied_auth', 'denied_authz', 'killed', 'rate_limited'] as const
const IS_DENIED = `outcome in (${DENIED.map((name) => `'${name}'`).join(', ')})`
/** A member of `decision` as an array, whatever is there. */
const list = (path: string): string =>
  `case jsonb_typeof(decision #> '${path}') when 'array' then decision #> '${path}' else '[]'::jsonb end`

const RULES = `(select distinct concat(r ->> 'rule', '  ', r ->> 'at') as key
  from jsonb_path_query(audit_trace(decision), '$.rules[*]') r
  where r ->> 'outcome' = 'defined' and r ->> 'rule' ~ '\\.deny(\\[.*)?$')`
const REASONS = `(select distinct jsonb_array_elements_text(${list('{authz,denied_by}')}) as key)`

interface Plan {
  readonly key: string
  /** A row has several keys. */
  readonly from?: string
  readonly only?: string
}

const PLANS: Readonly<Record<Dimension, Plan>> = {
  outcome: { key: 'outcome' },
  principal: { key: "principal_id || coalesce(' of ' || tenant, '')" },
  tenant: { key: 'tenant' },
  tool: { key: "nullif(concat_ws(' ', server, tool_name), '')" },
  reason: {
    key: 'coalesce(one.key, reason, outcome)',
    from: `left join lateral ${REASONS} one on true`,
    only: "outcome <> 'allowed'",
  },
  rule: { key: 'one.key', from: `left join lateral ${RULES} one on true`, only: "outcome = 'denied_authz'" },
}

/** Counts what matches; at most `limit` lines. */
export async function countRows(
  db: Pick<Pool, 'query'>,
  filter: RowFilter,
  by: Dimension,
  limit: number,
): Promise<Counts> {
  const { sql, values } = toCondition(filter)
  const { key, from, only = 'true' } = PLANS[by]
  const counted = from === undefined ? 'sum(count(*)) over ()' : '(select count(distinct id) from wanted)'
  const { rows } = await db.query<Omit<Count, 'share'> & { total: number; keys: number }>(
    `with wanted as (
       select id, outcome, latency_ms, ${key} as key from audit_events ${from ?? ''} where ${sql} and ${only})
     select key, count(*)::float8 as attempts,
       count(*) filter (where outcome = 'allowed')::float8 as allowed,
       count(*) filter (where ${IS_DENIED})::float8 as denied,
       percentile_cont(0.5) within group (order by latency_ms) as p50_ms,
       percentile_cont(0.95) within group (order by latency_ms) as p95_ms,
       (${counted})::float8 as total, (count(*) over ())::float8 as keys
     from wanted group by key order by count(*) desc, key limit $${values.length + 1}`,
    [...values, limit],
  )
  const { total = 0, keys = 0 } = rows[0] ?? {}
  const counts = rows.map(({ total: _total, keys: _keys, ...row }) => ({
    ...row,
    share: row.attempts / total,
  }))
  return { by, attempts: total, keys, counts }
}

/** What `gateway audit stats` tells when it is asked about nothing in particular. */
export interface Overview {
  readonly outcomes: Counts
  /** Of the attempts that the gateway refused. */
  readonly denied: { readonly principals: Counts; readonly reasons: Counts; readonly rules: Counts }
}

/** Outcomes of all, and who, why and by which rule of those that were refused; `limit` lines of each. */
export async function overview(db: Pick<Pool, 'query'>, filter: RowFilter, limit: number): Promise<Overview> {
  const refused = { ...filter, outcomes: (filter.outcomes ?? DENIED).filter(isDenied) }
  return {
    outcomes: await countRows(db, filter, 'outcome', 20),
    denied: {
      principals: await countRows(db, refused, 'principal', limit),
      reasons: await countRows(db, refused, 'reason', limit),
      rules: await countRows(db, refused, 'rule', limit),
    },
  }
}

function isDenied(outcome: Outcome): boolean {
  return (DENIED as readonly Outcome[]).includes(outcome)
}
