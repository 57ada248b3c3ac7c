/**
 * Histograms that are observed with every call. prom-client's own checks, copies and hashes the labels of each observation;
 * here one is a look into a Map and three additions. Shown through its registry like any other.
 */
import type { Metric, Registry } from 'prom-client'

/** What a histogram is made from; `buckets` are upper bounds, rising. */
export interface HistogramOptions {
  readonly name: string
  readonly help: string
  /** Absent = one series without labels, which is there from the start. */
  readonly labelNames?: readonly string[]
  readonly buckets: readonly number[]
  readonly registers: readonly Registry[]
}

/** Counts values. Labels are given by position and must be bounded. */
export interface ValueHistogram {
  observe(value: number, ...labels: readonly string[]): void
}

interface Series {
  readonly labels: Readonly<Record<string, string>>
  /** One per bucket, not yet summed up; the last is what lies above all. */
  readonly counts: number[]
  sum: number
}

/** One line of the exposition format, as prom-client takes it. */
interface Sample {
  readonly metricName: string
  readonly labels: Readonly<Record<string, string | number>>
  readonly value: number
}

/** Makes one and registers it. */
export function createHistogram(options: HistogramOptions): ValueHistogram {
  const { name, help, buckets, labelNames = [], registers } = options
  const all = new Map<string, Series>()

  function open(key: string, values: readonly string[]): Series {
    const labels = Object.fromEntries(labelNames.map((label, index) => [label, values[index] ?? '']))
    const series = { labels, counts: new Array<number>(buckets.length + 1).fill(0), sum: 0 }
    all.set(key, series)
    return series
  }

  if (labelNames.length === 0) open('', [])
  const metric = {
    ...{ name, help, type: 'histogram', aggregator: 'sum' },
    async get() {
      return { ...this, values: [...all.values()].flatMap((series) => samplesOf(name, buckets, series)) }
    },
  }
  for (const registry of registers) registry.registerMetric(metric as unknown as Metric)
  return {
    observe(value, ...labels) {
      const key = labels.length === 1 ? (labels[0] as string) : labels.join('\n')
      const series = all.get(key) ?? open(key, labels)
      let at = 0
      while (at < buckets.length && value > (buckets[at] as number)) at += 1
      series.counts[at] = (series.counts[at] as number) + 1
      series.sum += value
    },
  }
}

/** Buckets are shown summed up: each counts what is at most its bound. */
function samplesOf(name: string, buckets: readonly number[], { labels, counts, sum }: Series): Sample[] {
  let count = 0
  const bounds: readonly (number | string)[] = [...buckets, '+Inf']
  const samples: Sample[] = bounds.map((le, index) => {
    count += counts[index] as number
    return { metricName: `${name}_bucket`, labels: { le, ...labels }, value: count }
  })
  samples.push({ metricName: `${name}_sum`, labels, value: sum })
  samples.push({ metricName: `${name}_count`, labels, value: count })
  return samples
}
