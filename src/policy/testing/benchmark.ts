/** How long tests take, evaluated again and again. */
import type { TestResult } from './report.ts'

/** What one test costs. */
export interface Benchmark {
  readonly test: Pick<TestResult, 'kind' | 'place' | 'name' | 'labels'>
  readonly runs: number
  /** Microseconds of one evaluation. */
  readonly medianUs: number
  readonly p95Us: number
  /** Fuel of one evaluation; null where it is not known, in lists. */
  readonly fuel: number | null
}

/** How long to measure. */
export interface BenchmarkPlan {
  /** For all tests together, milliseconds. */
  readonly totalMs: number
  readonly tests: number
  readonly monotonicMs: () => number
}

const MAX_TEST_MS = 200
const MIN_RUNS = 10
const MAX_RUNS = 20_000
const WARM_UP = 5

/** One evaluation; its fuel, as far as it is known. */
export type Evaluate = () => Promise<number | null> | number | null

/** Repeats an evaluation for its share of the time. */
export async function measure(
  evaluate: Evaluate,
  { totalMs, tests, monotonicMs }: BenchmarkPlan,
): Promise<Omit<Benchmark, 'test'>> {
  let fuel: number | null = null
  for (let run = 0; run < WARM_UP; run += 1) fuel = await evaluate()
  const times: number[] = []
  const end = monotonicMs() + Math.min(MAX_TEST_MS, totalMs / Math.max(1, tests))
  while (times.length < MIN_RUNS || (times.length < MAX_RUNS && monotonicMs() < end)) {
    const from = monotonicMs()
    const made = evaluate()
    fuel = typeof made === 'object' && made !== null ? await made : made
    times.push((monotonicMs() - from) * 1000)
  }
  times.sort((a, b) => a - b)
  const at = (part: number) => times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? 0
  return { runs: times.length, medianUs: at(0.5), p95Us: at(0.95), fuel }
}
