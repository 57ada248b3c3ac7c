/** Finds reasons that are wrong as they are written: a decision that holds one is malformed, and so a denial of everything. */
import type { PolicyError } from '../compiler.ts'
import { isReason } from '../decision.ts'
import type { Dictionary } from '../dictionary.ts'
import { nameInDecision } from '../product-module.ts'
import { toJsonText } from '../trace-value.ts'

/** The warnings, in the order of the rules. What a rule computes is only known when it is evaluated. */
export function lintReasons(
  { rules }: Dictionary,
  sources: Readonly<Record<string, string>>,
): readonly PolicyError[] {
  return rules.flatMap(({ path, constant, file, row, col }) => {
    const name = nameInDecision(path)
    if ((name !== 'allow' && name !== 'deny') || constant === null || isReasonText(constant)) return []
    return [
      {
        ...{ file, row, col, code: 'malformed_reason', line: sources[file]?.split('\n')[row - 1] ?? null },
        message: `${constant} is no reason`,
        hint: 'a reason is a word of lower-case letters, digits and hyphens, such as other-tenant: calls this rule holds for are denied as malformed',
      },
    ]
  })
}

/** Source text that is no value, such as a template string, is taken for good. */
function isReasonText(constant: string): boolean {
  try {
    return isReason(JSON.parse(toJsonText(constant)))
  } catch {
    return true
  }
}
