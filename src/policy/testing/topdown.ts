/** The second opinion on rules `test_..`: OPA's interpreter, topdown. */

import type { BuildRequest, Compiler } from '../compiler.ts'
import { CompilerFault } from '../compiler-process.ts'
import type { HostRun } from '../host.ts'
import { canonicalText } from './canonical.ts'
import type { TestRule } from './rego-heads.ts'
import { DEFAULT_NOW_NS } from './table.ts'

/** What topdown says of a rule. */
export type Opinion =
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'undefined' }
  | { readonly kind: 'error'; readonly message: string }

/** Opinions on the rules that were asked for. */
export type Oracle = (rule: TestRule) => Opinion

/** Evaluates rules with topdown: all at once, or one by one when one of them fails. */
export async function askTopdown(
  compiler: Pick<Compiler, 'evaluate'>,
  request: BuildRequest,
  dataText: string,
  rules: readonly TestRule[],
): Promise<Oracle> {
  const paths = [...new Set(rules.map(({ path }) => path))]
  const opinions = new Map<string, Opinion>()
  const ask = async (asked: readonly string[]): Promise<void> => {
    const answered = await evaluate(compiler, request, dataText, asked)
    if (typeof answered === 'string' && asked.length > 1) {
      for (const path of asked) await ask([path])
      return
    }
    asked.forEach((path, index) => {
      if (typeof answered === 'string') opinions.set(path, { kind: 'error', message: answered })
      else opinions.set(path, answered[index] ?? { kind: 'undefined' })
    })
  }
  if (paths.length > 0) await ask(paths)
  return ({ path }) => opinions.get(path) ?? { kind: 'undefined' }
}

/** Opinions on rules in one query, or why there are none. */
async function evaluate(
  compiler: Pick<Compiler, 'evaluate'>,
  { sources, inputSchema, builtins, contract }: BuildRequest,
  dataText: string,
  paths: readonly string[],
): Promise<readonly Opinion[] | string> {
  // A comprehension is empty when the rule is undefined, so one undefined rule does not take the others with it.
  const parts = paths.map((path) => `[value | value := ${path}]`)
  const evaluated = compiler.evaluate({
    sources,
    inputSchema,
    ...(builtins === undefined ? {} : { builtins }),
    ...(contract === undefined ? {} : { contract }),
    query: `opinions = [${parts.join(', ')}]`,
    inputText: '{}',
    dataText,
    nowNs: DEFAULT_NOW_NS,
  })
  const answer = await evaluated.catch((error: unknown) => {
    if (error instanceof CompilerFault) return error.message
    throw error
  })
  if (typeof answer === 'string') return answer
  if (!answer.ok)
    throw new Error(`topdown refuses the tests: ${answer.errors[0]?.message ?? 'no reason given'}`)
  if (answer.error !== null) return answer.error.message
  const values = (answer.result[0]?.['opinions'] ?? []) as readonly (readonly unknown[])[]
  return values.map(([value, ...more]) =>
    value === undefined
      ? { kind: 'undefined' }
      : { kind: 'value', value: more.length > 0 ? [value, ...more] : value },
  )
}

/** How the two differ, for people; null = they agree. A budget that was exceeded in Wasm is no difference. */
export function differenceOf(run: HostRun, opinion: Opinion): string | null {
  if (run.fault !== null && run.fault.kind !== 'error') return null
  const wasm: Opinion =
    run.fault !== null
      ? { kind: 'error', message: run.fault.message }
      : run.result === undefined
        ? { kind: 'undefined' }
        : { kind: 'value', value: run.result }
  const same =
    wasm.kind === opinion.kind &&
    (wasm.kind !== 'value' ||
      opinion.kind !== 'value' ||
      canonicalText(wasm.value) === canonicalText(opinion.value))
  return same ? null : `Wasm gives ${textOf(wasm)}, topdown gives ${textOf(opinion)}`
}

function textOf(opinion: Opinion): string {
  if (opinion.kind === 'undefined') return 'undefined'
  return opinion.kind === 'error' ? `an error (${opinion.message})` : JSON.stringify(opinion.value)
}
