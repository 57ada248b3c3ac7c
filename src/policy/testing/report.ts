/** What came of the tests. Types only; nothing in here is escaped or laid out. */
import type { TreeLine } from '../../trace/tree.ts'
import type { Benchmark } from './benchmark.ts'
import type { Coverage } from './coverage.ts'
import type { Mismatch, Verdict } from './expectation.ts'
import type { TestCase } from './table.ts'
import type { Place } from './yaml-document.ts'

/** One test: a combination of a table's case, a rule `test_..`, or a sub-case of one. */
export interface TestResult {
  readonly kind: 'case' | 'rule'
  readonly place: Place
  readonly name: string
  /** Combination of the matrix, or name of the sub-case. */
  readonly labels: readonly string[]
  /** `todo`: a rule `todo_test_..` that does not hold yet. */
  readonly outcome: 'passed' | 'failed' | 'skipped' | 'todo'
  /** Why it is skipped. */
  readonly reason: string | null
  readonly failure: TestFailure | null
  /** What it took, in milliseconds; the sub-cases of a rule share what the rule took. 0 when it was not run. */
  readonly ms: number
}

/** A case of a table with what came of it. */
export interface RanCase {
  readonly test: TestCase
  readonly result: TestResult
  /** What the policy said; null = it was not asked. */
  readonly got: Verdict | null
  /** JSON text of the input that was evaluated; null = nothing was. */
  readonly inputText: string | null
}

/** Why a test failed. */
export interface TestFailure {
  /** A table's case: what is not as expected; empty for rules. */
  readonly mismatches: readonly Mismatch[]
  /** A table's case: what the policy said. */
  readonly got: Verdict | null
  /** Sentences, such as what a rule gave instead of true. */
  readonly notes: readonly string[]
  /** The rules that matter, with their source lines. */
  readonly lines: readonly TreeLine[]
  /** The line that made the difference, and where its values come from. */
  readonly why: string | null
}

/** Everything a run of the tests found. */
export interface TestReport {
  /** Name of the sources, and version of OPA. */
  readonly revision: string
  readonly opa: string
  /** `sha256:<hex>` of the module that serves; the cases of tables ran on it. */
  readonly digest: string
  /** `sha256:<hex>` of the module in which the rules ran; null when there are none. */
  readonly ruleDigest: string | null
  /** Files with tests, in order; also those of which no test was chosen. */
  readonly files: readonly string[]
  readonly results: readonly TestResult[]
  /** Tests there are, chosen or not. */
  readonly total: number
  /** The cases among the results. */
  readonly cases: readonly RanCase[]
  /** null: it was not asked for. */
  readonly coverage: Coverage | null
  /** null: it was not asked for, or a test failed. */
  readonly benchmarks: readonly Benchmark[] | null
  readonly buildMs: number
  readonly runMs: number
}
