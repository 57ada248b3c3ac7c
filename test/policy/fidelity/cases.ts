/** OPA's evaluation cases: what they hold, and what is asked of a module for one. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Question } from './three-ways.ts'

/** One line of the file of cases. */
export interface Case {
  readonly note: string
  readonly query: string
  readonly modules?: readonly string[]
  readonly data?: unknown
  readonly input?: unknown
  readonly input_term?: string
  readonly want_result?: readonly Readonly<Record<string, unknown>>[]
  readonly want_defined?: boolean
  readonly want_error?: string
  readonly want_error_code?: string
  readonly strict_error?: boolean
}

const FILE = join(
  process.env['SHARED_DATA'] ?? fileURLToPath(new URL('../../../../shared/data', import.meta.url)),
  'opa-cases.jsonl',
)

/** Where the cases are expected; null = they are not here. */
export function casesFile(): string | null {
  return existsSync(FILE) ? FILE : null
}

/** Why the cases were left out of a run. */
export const CASES_ABSENT = `${FILE} is not here (SHARED_DATA tells where it is)`

/** The cases of a file, with their digits as far as JavaScript holds them. */
export function readCases(file: string): readonly Case[] {
  return readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Case)
}

/** What is asked for a case: its own entrypoint, or a rule that holds its query. */
export function toQuestion(test: Case): Question {
  const modules = Object.fromEntries((test.modules ?? []).map((text, i) => [`module-${i}.rego`, text]))
  const path = simplePath(test.query)
  const sources = path === null ? { ...modules, 'query.rego': queryModule(test) } : modules
  return {
    sources,
    entrypoint: path ?? 'query/answers',
    dataText: JSON.stringify(test.data ?? {}),
    inputText: test.input_term ?? (test.input === undefined ? null : JSON.stringify(test.input)),
  }
}

/** The entrypoint of a query that only asks for a document; null for any other query. */
export function simplePath(query: string): string | null {
  const match = /^data((?:\.[A-Za-z_]\w*)+) = x$/.exec(query.trim())
  return match?.[1] === undefined ? null : match[1].slice(1).replaceAll('.', '/')
}

function queryModule({ want_result, query }: Case): string {
  const names = Object.keys(want_result?.[0] ?? {})
  const head =
    names.length > 0 ? `{${names.map((name) => `${JSON.stringify(name)}: ${name}`).join(', ')}}` : 'true'
  return `package query\n\nanswers contains ${head} if {\n\t${query.trim()}\n}\n`
}
