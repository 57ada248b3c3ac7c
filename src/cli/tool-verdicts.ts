/** What the configured policy says about tools for one principal: asked of the module that would serve, traced. */
import type { Principal, ServerFacts, Target } from '../gateway/types.ts'
import type { CompiledPolicy } from '../policy/build.ts'
import type { PolicyLimits } from '../policy/engine.ts'
import { evaluateQuestion } from '../policy/evaluate.ts'
import { parseTrace } from '../trace/shape.ts'
import { decidingRules } from '../trace/tree.ts'
import type { KnownTool } from '../upstream/room.ts'

/** What is asked with. */
export interface Verdicts {
  readonly policy: CompiledPolicy
  readonly limits: PolicyLimits
  readonly principal: Principal
  readonly nowMs: number
}

/** The verdict on one tool. Reasons, names and places are the policy author's. */
export interface ToolVerdict {
  readonly allow: boolean
  readonly allowedBy: readonly string[]
  readonly deniedBy: readonly string[]
  /** Why there is no verdict, which is a denial; null = there is one. */
  readonly failure: string | null
  /** The rules that decided; where nothing was allowed, the one that came closest to allowing it. */
  readonly rules: readonly { readonly name: string; readonly at: string }[]
}

/**
 * The verdicts on the tools of one upstream, in their order, exactly as its list is cut down for this principal: phase
 * `list`, without arguments.
 * @throws PolicyFault when the policy cannot be loaded
 */
export async function judgeTools(
  tools: readonly KnownTool[],
  server: ServerFacts,
  protocolVersion: string | null,
  { policy, limits, principal, nowMs }: Verdicts,
): Promise<readonly ToolVerdict[]> {
  const request = { id: 'tools-list', method: 'tools/list', protocolVersion, ip: null, session: null }
  const facts = { request, principal, server, target: null, argumentsText: null, client: null }
  const question = {
    phase: 'list',
    nowNs: BigInt(nowMs) * 1_000_000n,
    facts,
    targets: tools.map(toTarget),
  } as const
  const answer = await evaluateQuestion(question, { policy, limits, monotonicMs: () => performance.now() })
  if (answer.phase !== 'list') throw new Error('a question about a list was answered for a call')
  const { failure } = answer
  return answer.elements.map(({ verdict, traceText }) => {
    const { allow, allowedBy, deniedBy } = verdict
    const { rules = [] } = parseTrace(JSON.parse(traceText)) ?? {}
    const deciding = decidingRules(rules, { allow, failed: failure !== null })
    return {
      ...{ allow, allowedBy, deniedBy, failure },
      rules: deciding.map(({ rule, at }) => ({ name: rule, at })),
    }
  })
}

function toTarget({ name, annotations, schemaDigest }: KnownTool): Target {
  return { kind: 'tool', name, annotations, schemaDigest }
}
