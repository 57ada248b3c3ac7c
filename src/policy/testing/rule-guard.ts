/** What rule tests must not do: change the policy they test, or hide one another. */
import type { PolicyError } from '../compiler.ts'
import type { Dictionary, RuleProbe } from '../dictionary.ts'
import { AUTHOR_PACKAGES, DECISION_RULES, OWNED_PACKAGE } from '../product-module.ts'
import type { TestRule } from './rego-heads.ts'
import { findDefaults, packageOf, pathIn } from './rego-heads.ts'

/** What is looked at. */
export interface GuardedSources {
  /** The policy's own files. */
  readonly sources: Readonly<Record<string, string>>
  readonly tests: Readonly<Record<string, string>>
  readonly rules: readonly TestRule[]
  /** Of the module with both. */
  readonly dictionary: Dictionary
}

/** Everything that is wrong with the tests. */
export function guardSources(guarded: GuardedSources): readonly PolicyError[] {
  return [...changesOfPolicy(guarded), ...hiddenTests(guarded)]
}

/** A rule that a test file adds to the policy's own: the tests would not be of the policy that serves. */
function changesOfPolicy({ sources, tests, dictionary }: GuardedSources): readonly PolicyError[] {
  const owned = new Set(
    dictionary.rules.filter(({ file }) => !Object.hasOwn(tests, file)).map(({ path }) => baseOf(path)),
  )
  for (const name of DECISION_RULES) owned.add(`data.${OWNED_PACKAGE}.${AUTHOR_PACKAGES[0]}.${name}`)
  for (const [file, text] of Object.entries(sources)) {
    for (const { name } of findDefaults(text)) owned.add(pathOf(text, name) ?? file)
  }
  const added = dictionary.rules
    .filter(({ file, path }) => Object.hasOwn(tests, file) && owned.has(baseOf(path)))
    .map((probe) => changeError(tests, probe.file, probe.row, baseOf(probe.path)))
  const defaults = Object.entries(tests).flatMap(([file, text]) =>
    findDefaults(text)
      .filter(({ name }) => owned.has(pathOf(text, name) ?? ''))
      .map(({ name, row }) => changeError(tests, file, row, pathOf(text, name) ?? name)),
  )
  return [...added, ...defaults]
}

function changeError(
  tests: Readonly<Record<string, string>>,
  file: string,
  row: number,
  path: string,
): PolicyError {
  return {
    ...{ file, row, col: 1, code: 'test_error', line: tests[file]?.split('\n')[row - 1] ?? null },
    message: `a test file adds to ${path}, a rule of the policy`,
    hint: 'the tests would be of another policy than the one that serves: give the rule another name',
  }
}

/** Two plain definitions of one test: the one that fails is not seen when the other holds. */
function hiddenTests({ tests, rules, dictionary }: GuardedSources): readonly PolicyError[] {
  return rules.flatMap(({ path }) => {
    const definitions = dictionary.rules.filter((probe) => probe.path === path && probe.kind !== 'else')
    return definitions.slice(1).map((second) => hiddenError(tests, second, definitions[0] ?? second))
  })
}

function hiddenError(
  tests: Readonly<Record<string, string>>,
  second: RuleProbe,
  first: RuleProbe,
): PolicyError {
  const { file, row, col, path } = second
  return {
    ...{ file, row, col, code: 'test_error', line: tests[file]?.split('\n')[row - 1] ?? null },
    message: `${path.replace(/^.*\./, '')} is there already, at ${first.file}:${first.row}`,
    hint: 'a rule holds when one of its definitions does, so the other could fail unseen: rename one of them',
  }
}

/** The rule's path without sub-cases and variables. */
function baseOf(path: string): string {
  return path.replace(/\[[A-Za-z_]\w*\].*$/, '')
}

function pathOf(text: string, name: string): string | null {
  const segments = packageOf(text)
  return segments === null ? null : pathIn(segments, name)
}
