/** Finds masks that are wrong as they are written: each would cost the rows of all calls it applies to their payloads. */
import type { PolicyError } from '../compiler.ts'
import type { Dictionary } from '../dictionary.ts'
import { isMaskRule, parseMasks } from '../mask.ts'
import { toJsonText } from '../trace-value.ts'

/** The warnings, in the order of the rules. What a rule computes is only known when it is evaluated. */
export function lintMasks(
  { rules }: Dictionary,
  sources: Readonly<Record<string, string>>,
): readonly PolicyError[] {
  return rules.flatMap(({ path, constant, file, row, col }) => {
    if (!isMaskRule(path) || constant === null) return []
    const { maskFailure } = parseMasks([constantValue(constant)])
    if (maskFailure === null) return []
    return [
      {
        ...{ file, row, col, code: 'malformed_mask', line: sources[file]?.split('\n')[row - 1] ?? null },
        message: maskFailure.replace(/^mask\[0\] /, ''),
        hint: 'rows of calls it applies to are stored without payloads until it is mended',
      },
    ]
  })
}

/** Source text that is no value, such as a template string, is known only when it is evaluated: as a path it is taken for good. */
function constantValue(constant: string): unknown {
  try {
    return JSON.parse(toJsonText(constant))
  } catch {
    return '/arguments'
  }
}
