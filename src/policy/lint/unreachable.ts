/** Finds rules that no decision leads to: often a `deny` that is misspelt, or stands in the wrong package. */
import { nearestName } from '../../nearest-name.ts'
import type { PolicyError, RuleDependencies } from '../compiler.ts'
import { PRODUCT_FILE_PREFIX } from '../dictionary.ts'
import { AUTHOR_PACKAGES, DECISION_RULES, nameInDecision, OWNED_PACKAGE } from '../product-module.ts'
import { headWarning } from './head-warning.ts'

const HOME = `data.${OWNED_PACKAGE}.${AUTHOR_PACKAGES[0]}`

/**
 * One warning for each rule, at its first definition. Rules that only such rules use are left out: they are reached as soon
 * as those are.
 */
export function lintUnreachable(
  rules: readonly RuleDependencies[],
  sources: Readonly<Record<string, string>>,
): readonly PolicyError[] {
  const unreached = rules.filter(({ reachable, file }) => !reachable && !file.startsWith(PRODUCT_FILE_PREFIX))
  const used = new Set(unreached.flatMap(({ rule, rules: named }) => named.filter((one) => one !== rule)))
  const firsts = new Map<string, RuleDependencies>()
  for (const one of unreached) {
    if (!used.has(one.rule) && !firsts.has(one.rule)) firsts.set(one.rule, one)
  }
  return [...firsts.values()].map((one) =>
    headWarning(one, sources, {
      code: 'unreachable_rule',
      message: `no decision leads to ${one.rule}`,
      hint: wayOut(one.rule),
    }),
  )
}

function wayOut(path: string): string {
  const name = path.slice(path.lastIndexOf('.') + 1)
  const deciding = `${DECISION_RULES.slice(0, -1).join(', ')} and ${DECISION_RULES.at(-1)}`
  if (DECISION_RULES.some((one) => one === name))
    return `rules of this name decide in package ${HOME.slice(5)}`
  const near = nameInDecision(path) !== null ? (nearestName(name, DECISION_RULES) ?? otherForm(name)) : null
  const meant = near === null ? '' : `did you mean ${near}? `
  return `${meant}${deciding} decide, and what they use: use the rule there, or remove it`
}

/** `denied` and `allowed` are far from `deny` and `allow` in letters, but not in meaning. */
function otherForm(name: string): string | null {
  return (
    DECISION_RULES.find((rule) => /^[a-z]+$/.test(name) && name.startsWith(rule.replace(/[sy]$/, ''))) ?? null
  )
}
