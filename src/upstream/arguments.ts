/** Checks a call's arguments against the tool's own input schema. [MCP server/tools, "Input validation"] */
import { LRUCache } from 'lru-cache'
import { GatewayError } from '../errors.ts'
import type { ToolEntry } from '../gateway/types.ts'
import { asObject } from '../json/object.ts'
import type { SchemaPlans } from './schema-plans.ts'

/** What the check is made with. */
export interface ArgumentCheckOptions {
  readonly plans: SchemaPlans
  /** The tool's entry after a refresh of the catalogue; null when it is gone. Never throws. */
  readonly refetch: (upstream: string, tool: string) => Promise<ToolEntry | null>
  /** Called once for each schema that cannot be used. */
  readonly onProblem: (problem: SchemaProblem) => void
}

/** A schema against which nothing can be checked: policy decides alone. */
export interface SchemaProblem {
  readonly upstream: string
  readonly tool: string
  readonly schemaDigest: string
  readonly reason: string
}

/** The stage validate: arguments against the schema of their tool. */
export interface ArgumentCheck {
  /** `Rooms.upstreams.validateArguments`. */
  validate(upstream: string, tool: ToolEntry, argumentsText: string): void | Promise<void>
  /** Why the tool's schema cannot be used; null when it can. */
  problemOf(upstream: string, tool: ToolEntry): Promise<string | null>
  /** Schemas of this upstream that were met and cannot be used. */
  problems(upstream: string): readonly SchemaProblem[]
}

const MAX_PROBLEMS = 200

/** Makes the check; nothing is compiled yet. */
export function createArgumentCheck(options: ArgumentCheckOptions): ArgumentCheck {
  const { plans } = options
  const problems = new LRUCache<string, SchemaProblem>({ max: MAX_PROBLEMS })

  async function problemOf(upstream: string, tool: ToolEntry): Promise<string | null> {
    const problem = await plans.problemOf(upstream, tool)
    note(upstream, tool, problem)
    return problem
  }

  function note(upstream: string, { name, schemaDigest }: ToolEntry, reason: string | null): void {
    const key = JSON.stringify([upstream, name])
    const noted = problems.get(key)
    if (reason === null) {
      if (noted !== undefined) problems.delete(key)
      return
    }
    if (noted?.schemaDigest === schemaDigest) return
    const problem = { upstream, tool: name, schemaDigest, reason }
    problems.set(key, problem)
    options.onProblem(problem)
  }

  async function check(upstream: string, tool: ToolEntry, value: unknown, text: string) {
    if ((await problemOf(upstream, tool)) !== null) return []
    return await plans.check(upstream, tool, value, text)
  }

  /** What takes time: a schema that is not compiled yet, arguments that could keep it busy, and those that do not fit. */
  async function checkAll(
    upstream: string,
    tool: ToolEntry,
    value: unknown,
    argumentsText: string,
  ): Promise<void> {
    const found = await check(upstream, tool, value, argumentsText)
    if (found.length === 0) return
    // The upstream may have changed the tool since its list was read.
    const fresh = await options.refetch(upstream, tool.name)
    if (fresh === null || fresh.schemaDigest === tool.schemaDigest) throw invalid(found)
    const still = await check(upstream, fresh, value, argumentsText)
    if (still.length > 0) throw invalid(still)
  }

  return {
    validate(upstream, tool, argumentsText) {
      const value: unknown = JSON.parse(argumentsText)
      // Whatever the schema says, or fails to say: arguments are an object.
      if (asObject(value) === null) throw invalid(['/: type'])
      if (!plans.isSureOf(tool, value, argumentsText)) return checkAll(upstream, tool, value, argumentsText)
      if (problems.size > 0) note(upstream, tool, null)
      return undefined
    },
    problemOf,
    problems: (upstream) => [...problems.values()].filter((problem) => problem.upstream === upstream),
  }
}

function invalid(problems: readonly string[]): GatewayError {
  const message = `Invalid arguments: ${problems.join('; ')}`
  return new GatewayError('invalid_arguments', { message, detail: message })
}
