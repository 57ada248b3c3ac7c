/** What tests cost, for people and for programs. */
import type { Benchmark } from '../policy/testing/benchmark.ts'
import type { ReportLayout } from './policy-test-lines.ts'
import { titleOf } from './policy-test-outcome.ts'
import { cutMiddle, escapeText, textWidth } from './text.ts'

const MAX_SHOWN = 20
const NAME_WIDTH = 56

/** The lines to print, the dearest first. @param budget fuel that one decision may use */
export function layoutBenchmarks(
  benchmarks: readonly Benchmark[],
  budget: number,
  { out, full }: ReportLayout,
): readonly string[] {
  const sorted = [...benchmarks].sort((a, b) => b.medianUs - a.medianUs)
  const shown = full ? sorted : sorted.slice(0, MAX_SHOWN)
  const more = sorted.length - shown.length
  const head = `${'  one evaluation'.padEnd(NAME_WIDTH + 2)}   median us      p95 us   of budget`
  return [
    '',
    out.style('dim', head),
    ...shown.map((one) => benchmarkLine(one, budget)),
    ...(more > 0 ? [`  .. ${more} more: --full`] : []),
  ]
}

function benchmarkLine({ test, medianUs, p95Us, fuel }: Benchmark, budget: number): string {
  const name = cutMiddle(`${escapeText(test.place.file)}:${test.place.row} ${titleOf(test)}`, NAME_WIDTH)
  const pad = ' '.repeat(NAME_WIDTH - textWidth(name))
  // Rules test_.. run on a budget of their own.
  const share = fuel === null || test.kind === 'rule' ? '-' : `${((fuel / budget) * 100).toFixed(2)} %`
  return `  ${name}${pad}${medianUs.toFixed(1).padStart(12)}${p95Us.toFixed(1).padStart(12)}${share.padStart(12)}`
}

/** As programs read them. */
export function toBenchmarkDocuments(benchmarks: readonly Benchmark[]): readonly object[] {
  return benchmarks.map(({ test, runs, medianUs, p95Us, fuel }) => ({
    file: test.place.file,
    row: test.place.row,
    name: test.name,
    labels: test.labels,
    runs,
    median_us: Math.round(medianUs * 100) / 100,
    p95_us: Math.round(p95Us * 100) / 100,
    fuel,
  }))
}
