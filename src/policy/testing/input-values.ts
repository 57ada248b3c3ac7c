/** What an expression read from the input. Traces tell it of lines that fail; of lines that hold it is looked up again. */
import { findValue, sliceOf } from '../../json/span.ts'
import type { TraceStep } from '../../trace/shape.ts'
import type { ShownValue } from '../../trace/tree.ts'
import type { Dictionary, Read } from '../dictionary.ts'

const MAX_VALUE = 200

/** @param inputText JSON text of the whole input */
export function createInputValues(
  inputText: string,
  { exprs }: Pick<Dictionary, 'exprs'>,
): (step: TraceStep) => readonly ShownValue[] {
  return (step) => {
    const probe = exprs.find(({ file, row, text }) => `${file}:${row}` === step.at && text === step.expr)
    if (probe === undefined || probe.withTargets.length > 0) return []
    return probe.reads.flatMap((read) => {
      const path = constantPath(read)
      const span = path === null ? null : findValue(inputText, path)
      if (span === null || span.end - span.start > MAX_VALUE) return []
      return [{ name: read.text, json: sliceOf(inputText, span) }]
    })
  }
}

/** null: not of the input, or not known before evaluation. */
function constantPath({ root, path }: Read): readonly (string | number)[] | null {
  const steps = path.filter(
    (step): step is string | number => typeof step === 'string' || typeof step === 'number',
  )
  return root === 'input' && steps.length === path.length ? steps : null
}
