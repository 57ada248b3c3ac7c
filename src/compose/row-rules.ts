/** What the audit room has to keep out of rows, and how it keeps the rest: from the configuration, the gateway's secret and the policy in force. */
import { hashMasks } from '../audit/mask.ts'
import type { RowRules } from '../audit/rules.ts'
import type { Config } from '../config/types.ts'
import type { PolicyRoom } from '../policy/engine.ts'
import { deriveKey } from '../secret.ts'
import { toRowPlan } from './row-plan.ts'

/** The rules of the gateway's rows. */
export function openRowRules(
  config: Config,
  secret: string,
  policy: Pick<PolicyRoom, 'hasMasks'>,
): Omit<RowRules, 'keys'> {
  const masks = new Map(
    Object.entries(config.upstreams).map(([name, { tools }]) => [
      name,
      new Map(Object.entries(tools).map(([tool, { redact }]) => [tool, hashMasks(redact)])),
    ]),
  )
  return {
    hashKey: deriveKey(secret, 'redaction'),
    toolMasks: (server, tool) => masks.get(server)?.get(tool) ?? [],
    policyMasks: () => policy.hasMasks,
    plan: toRowPlan(config),
  }
}
