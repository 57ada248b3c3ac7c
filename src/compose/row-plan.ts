/** The configuration as the audit room wants it. */
import type { RowPlan } from '../audit/payload.ts'
import type { Config } from '../config/types.ts'

/** How rows are kept. */
export function toRowPlan({ audit, upstreams }: Pick<Config, 'audit' | 'upstreams'>): RowPlan {
  return {
    compact: audit.traceEncoding === 'compact',
    payload: {
      level: audit.payload,
      upstreams: Object.fromEntries(
        Object.entries(upstreams).map(([name, { auditPayload, tools }]) => [
          name,
          {
            level: auditPayload,
            tools: Object.fromEntries(Object.entries(tools).map(([tool, one]) => [tool, one.auditPayload])),
          },
        ]),
      ),
    },
  }
}
