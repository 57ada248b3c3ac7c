/** One case of a folder's tables by its name, as a question to ask. */
import { PolicyBuildError } from '../build-error.ts'
import type { InputQuestion } from '../input-document.ts'
import type { TestCase } from './table.ts'
import { readTables } from './table-reader.ts'
import { loadTableCheck } from './table-schema.ts'
import { loadTestFiles } from './test-files.ts'

/** What a combination of a case is called: `cases/tools.yaml:12[eng,delete_repo]`. */
export function caseName({ place, labels }: Pick<TestCase, 'place' | 'labels'>): string {
  return `${place.file}:${place.row}[${labels.join(',')}]`
}

const MAX_NEAR = 30

/**
 * Finds the case of that name; without a combination, the first one of it.
 *
 * @returns the question, or names that are like it
 * @throws PolicyBuildError when the tables are wrong
 */
export async function findCase(
  folder: string,
  name: string,
): Promise<{ readonly question: InputQuestion } | { readonly near: readonly string[] }> {
  const { tables } = await loadTestFiles(folder)
  const { cases, errors } = readTables(tables, await loadTableCheck())
  if (errors.length > 0) throw new PolicyBuildError(errors)
  const found = cases.find((one) => caseName(one) === name || caseName(one).startsWith(`${name}[`))
  if (found !== undefined) return { question: toQuestion(found) }
  const file = /^[^:[]*/.exec(name)?.[0] ?? ''
  const inFile = cases.filter(({ place }) => place.file === file)
  const near =
    inFile.length > 0
      ? inFile.map((one) => `${one.place.file}:${one.place.row}  ${one.name}`)
      : cases.map(({ place }) => place.file)
  return { near: [...new Set(near)].slice(0, MAX_NEAR) }
}

/** All cases of a policies folder as questions. Throws PolicyBuildError when the tables are wrong. */
export async function caseQuestions(
  folder: string,
): Promise<readonly { readonly name: string; readonly question: InputQuestion }[]> {
  const { tables } = await loadTestFiles(folder)
  const { cases, errors } = readTables(tables, await loadTableCheck())
  if (errors.length > 0) throw new PolicyBuildError(errors)
  return cases.map((one) => ({ name: `${caseName(one)} ${one.name}`, question: toQuestion(one) }))
}

function toQuestion({ phase, nowNs, facts }: TestCase): InputQuestion {
  if (phase === 'call') return { phase, nowNs, facts, targets: [] }
  return {
    phase,
    nowNs,
    facts: { ...facts, target: null },
    targets: facts.target === null ? [] : [facts.target],
  }
}
