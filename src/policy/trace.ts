/**
 * The trace of an evaluation: its events and the module's dictionary -> the JSON text that the audit row keeps
 * (`{"v":1,"truncated":..,"dropped":..,"rules":[..]}`).
 *
 * A rule: `rule, at, title?, outcome (defined | undefined | aborted), args?, value?, steps[], rules[]?`.
 * A step: `at, expr, ok, aborted?, vars{}, reads{}?, missing[]?, steps[]?, rules[]?`: `steps` of the closures inside the
 * expression, `rules` that were evaluated for it; `reads` and `missing` on what failed and on every `not`.
 */
import type { JsonObject } from './build-data.ts'
import type { Dictionary } from './dictionary.ts'
import type { Probe } from './host-events.ts'
import type { Recording } from './host-values.ts'
import { prepareDictionary } from './trace-dictionary.ts'
import { createDocuments } from './trace-documents.ts'
import { createDataDocument, createTextDocument } from './trace-lookup.ts'
import type { RenderedTrace, TraceBounds } from './trace-render.ts'
import { renderTrace } from './trace-render.ts'
import { buildTree } from './trace-tree.ts'

/** The input of the evaluation, as `input.ts` makes it. */
export interface TracedInput {
  /** JSON text of the input without `arguments`. */
  readonly headText: string
  /** JSON text of `arguments`; null = none. */
  readonly argumentsText: string | null
}

/** Reads the traces of one module. */
export interface TraceReader {
  /** Whether the module's probe is in the dictionary. */
  knows(probe: Probe): boolean
  /** Whether the probe stands in a rule of the product itself, whose events need not be logged. */
  hides(probe: Probe): boolean
  /** One evaluation's trace; valid JSON whatever the evaluation did. */
  render(recording: Recording, input: TracedInput, bounds: TraceBounds): RenderedTrace
  /** Everything of the policy's own that can stand in a trace. */
  readonly words: string
}

/** Work for looking up references, a few milliseconds. */
const MAX_LOOKUP_CHARACTERS = 1_000_000

/** @throws Error when the dictionary contradicts itself */
export function createTraceReader(dictionary: Dictionary, data: JsonObject): TraceReader {
  const prepared = prepareDictionary(dictionary)
  const dataDocument = createDataDocument(data)
  return {
    knows: prepared.knows,
    hides: prepared.hides,
    words: prepared.words,
    render(recording, { headText, argumentsText }, bounds) {
      const budget = { characters: MAX_LOOKUP_CHARACTERS }
      const input = {
        head: createTextDocument(headText, budget),
        arguments: argumentsText === null ? null : createTextDocument(argumentsText, budget),
      }
      const rules = createDocuments(prepared, recording)
      const tree = buildTree(prepared, recording, { input, data: dataDocument, rules, budget })
      return renderTrace(tree, recording.dropped, bounds)
    },
  }
}
