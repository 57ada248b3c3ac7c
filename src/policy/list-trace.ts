/**
 * The trace of what a policy says about one element of a list. The room judges the elements of a list without a trace; here
 * the decision is evaluated once more on the same module, with the input that the rules saw for that element.
 */
import type { Call, Target } from '../gateway/types.ts'
import { findValue, sliceOf } from '../json/span.ts'
import type { CompiledPolicy } from './build.ts'
import type { PolicyLimits } from './engine.ts'
import type { PolicyHost } from './host.ts'
import { createHost } from './host.ts'
import { toPolicyInput } from './input.ts'
import type { TraceReader } from './trace.ts'
import { createTraceReader } from './trace.ts'

/** Traces elements of lists. */
export interface ListTracer {
  /** JSON text of the trace. */
  traceText(call: Call, target: Target, nowNs: bigint): Promise<string>
  /** JSON text of the input that the rules see. */
  inputText(call: Call, target: Target, nowNs: bigint): string
}

/** The module is loaded when the first trace is asked for. */
export function createListTracer(policy: CompiledPolicy, limits: PolicyLimits): ListTracer {
  let loading: Promise<{ readonly host: PolicyHost; readonly reader: TraceReader }> | null = null
  const inputText = (call: Call, target: Target, nowNs: bigint): string => {
    const subject = { phase: 'list', targets: [target] } as const
    const { headText } = toPolicyInput(call, subject, { nowNs, maxBytes: limits.maxInputBytes })
    const element = findValue(headText, ['targets', 0])
    if (element === null) throw new Error('a list without its element')
    return `${headText.slice(0, -1)},"target":${sliceOf(headText, element)}}`
  }
  return {
    inputText,
    async traceText(call, target, nowNs) {
      loading ??= load(policy, limits)
      const { host, reader } = await loading
      const headText = inputText(call, target, nowNs)
      const run = host.evaluate({
        entrypoint: 'gateway/decision',
        input: new TextEncoder().encode(headText),
        nowNs,
        record: true,
      })
      return reader.render(run.recording(), { headText, argumentsText: null }, limits.trace).text
    },
  }
}

async function load(policy: CompiledPolicy, limits: PolicyLimits) {
  const reader = createTraceReader(policy.dictionary, policy.data)
  const host = await createHost({
    wasm: policy.wasm,
    dataText: JSON.stringify(policy.data),
    knowsProbe: reader.knows,
    hidesProbe: reader.hides,
    limits,
  })
  return { host, reader }
}
