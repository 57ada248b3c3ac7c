import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { parse } from 'yaml'
import type { Metrics } from '../../src/admin/metrics.ts'
import { createMetrics } from '../../src/admin/metrics.ts'
import { OUTCOMES } from '../../src/cli/audit-arguments.ts'
import { GatewayError } from '../../src/errors.ts'
import type { AuditEvent } from '../../src/gateway/types.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** Labels that Prometheus itself adds to whatever it reads. */
const TARGET_LABELS = ['instance', 'job']

interface Panel {
  readonly title: string
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[]
}

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: Record<string, string>
  readonly annotations: Record<string, string>
}

interface Board {
  readonly panels: readonly Panel[]
  readonly templating: { readonly list: readonly { readonly query: unknown }[] }
  readonly annotations: { readonly list: readonly { readonly expr: string }[] }
}

const board = JSON.parse(readFileSync(`${ROOT}/ops/grafana/gateway.json`, 'utf8')) as Board
const alerts = parse(readFileSync(`${ROOT}/ops/prometheus/alerts.yaml`, 'utf8')) as {
  readonly groups: readonly { readonly rules: readonly Rule[] }[]
}
const rules = alerts.groups.flatMap((group) => group.rules)

/** Everything the gateway shows when everything has happened at least once: name of a series -> its labels. */
async function readSeries(): Promise<ReadonlyMap<string, ReadonlyMap<string, ReadonlySet<string>>>> {
  const metrics = createMetrics({
    version: '1.2.3',
    process: true,
    audit: () => ({
      ...{ pendingRows: 1, pendingBytes: 1, lagMs: 1 },
      ...{ writtenRows: 1, mendedRows: 1, failedWrites: 1, lostRows: 1 },
      ...{ deadLetters: 1, recoveredRows: 1, spoolDiskBytes: 1, spoolMaxBytes: 1, accepting: 1 },
    }),
    kills: () => ({ tool: 1, server: 1 }),
    upstreams: () => [{ name: 'desk', status: 'up', breaker: 'closed', inFlight: 1, waiting: 1 }],
    load: () => ({ lagMs: 1, working: 1, waiting: 1, inFlight: 1 }),
  })
  for (const outcome of OUTCOMES) metrics.record(attempt(outcome))
  recordAll(metrics)
  const series = new Map<string, Map<string, Set<string>>>()
  for (const line of (await metrics.text()).split('\n')) {
    const [, name, labels = ''] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? /.exec(line) ?? []
    if (name === undefined) continue
    const known = series.get(name) ?? new Map<string, Set<string>>()
    for (const [, label = '', value = ''] of labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      known.set(label, (known.get(label) ?? new Set()).add(value))
    }
    series.set(name, known)
  }
  return series
}

function recordAll(metrics: Metrics): void {
  const serving = { revision: 'r', digest: 'sha256:1', sequence: 1 }
  for (const result of ['replaced', 'unchanged', 'failed'] as const) metrics.recordReload(result, serving)
  metrics.recordUpstreamWait('desk', 1)
  metrics.recordAuditRow(1)
}

function attempt(outcome: (typeof OUTCOMES)[number]): AuditEvent {
  const error = new GatewayError('upstream_failed')
  return {
    call: {
      message: { method: 'tools/call' },
      upstream: { server: 'desk', ms: 1, toolIsError: false, jsonRpcError: null },
      evaluation: { evalUs: 1 },
      timingsUs: { queue: 1 },
    },
    ending: { outcome, kind: outcome === 'allowed' ? null : error.kind, latencyMs: 1 },
  } as unknown as AuditEvent
}

const KEYWORDS = new Set(['by', 'without', 'on', 'ignoring', 'and', 'or', 'unless', 'bool', 'offset'])

interface Uses {
  /** Name of a series and a label it is selected by, with the texts it is compared with. */
  readonly selected: readonly {
    readonly name: string
    readonly label: string | null
    readonly values: readonly string[]
  }[]
  /** Labels that something is grouped by. */
  readonly grouped: readonly string[]
}

/** The names in an expression: what is followed by neither `(` nor `=` and is no keyword is a series. */
function usesOf(expr: string): Uses {
  const grouped: string[] = []
  const selected: { name: string; label: string | null; values: string[] }[] = []
  const plain = expr
    .replace(/\[[^\]]*\]/g, '')
    .replace(/\b(?:by|without|on|ignoring)\s*\(([^)]*)\)/g, (_, labels: string) => {
      grouped.push(...labels.split(',').map((label) => label.trim()))
      return ''
    })
  for (const [, name = '', matchers = ''] of plain.matchAll(
    /\b([a-zA-Z_:][\w:]*)\b(?!\s*\()(?![^{}]*\})(?:\{([^}]*)\})?/g,
  )) {
    if (KEYWORDS.has(name)) continue
    selected.push({ name, label: null, values: [] })
    for (const [, label = '', value = ''] of matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"/g)) {
      selected.push({ name, label, values: value.split('|') })
    }
  }
  return { selected, grouped }
}

describe('the Grafana board and the alert rules', () => {
  let series: Awaited<ReturnType<typeof readSeries>>
  before(async () => {
    series = await readSeries()
  })

  const expressions = (): readonly (readonly [where: string, expr: string])[] => [
    ...board.panels.flatMap(({ title, targets = [] }) =>
      targets.map(({ expr }) => [`panel ${title}`, expr] as const),
    ),
    ...board.annotations.list.map(({ expr }) => ['annotation', expr] as const),
    ...rules.map(({ alert, expr }) => [`alert ${alert}`, expr] as const),
  ]

  it('are read by this test: it sees names, selectors and groups', () => {
    const { selected, grouped } = usesOf(
      'histogram_quantile(0.9, sum by (le, server) (rate(a_bucket{x=~"b|c",y!=""}[5m]))) / on (z) max(d) > 1 and e',
    )
    expect(grouped).to.deep.equal(['le', 'server', 'z'])
    expect(selected).to.deep.equal([
      { name: 'a_bucket', label: null, values: [] },
      { name: 'a_bucket', label: 'x', values: ['b', 'c'] },
      { name: 'a_bucket', label: 'y', values: [''] },
      { name: 'd', label: null, values: [] },
      { name: 'e', label: null, values: [] },
    ])
  })

  it('name only series and labels that the gateway shows', () => {
    expect(expressions().length).to.be.greaterThan(40)
    for (const [where, expr] of expressions()) {
      const { selected, grouped } = usesOf(expr)
      expect(selected, where).to.not.deep.equal([])
      for (const { name, label } of selected) {
        expect([...series.keys()], `${where}: ${expr}`).to.include(name)
        if (label !== null)
          expect([...(series.get(name)?.keys() ?? [])], `${where}: ${name}`).to.include(label)
      }
      const labels = new Set(selected.flatMap(({ name }) => [...(series.get(name)?.keys() ?? [])]))
      for (const label of grouped) expect([...labels, ...TARGET_LABELS], where).to.include(label)
    }
  })

  it('compare closed labels only with values that occur', () => {
    for (const [where, expr] of expressions()) {
      for (const { name, label, values } of usesOf(expr).selected) {
        if (label === null || !['outcome', 'result', 'state', 'kind'].includes(label)) continue
        const known = [...(series.get(name)?.get(label) ?? [])]
        for (const value of values) expect(known, where).to.include(value)
      }
    }
  })

  it('show labels that are left after grouping', () => {
    for (const { title, targets = [] } of board.panels) {
      for (const { expr, legendFormat } of targets) {
        const { grouped } = usesOf(expr)
        for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) {
          expect([...grouped, ...(grouped.length === 0 ? TARGET_LABELS : [])], title).to.include(label)
        }
      }
    }
  })

  it('say of every alert how urgent it is, what happens and what to do', () => {
    for (const { alert, labels, annotations } of rules) {
      expect(alert).to.match(/^Gateway[A-Z][A-Za-z]+$/)
      expect(labels['severity'], alert).to.be.oneOf(['page', 'ticket'])
      expect(Object.keys(annotations), alert).to.have.members(['summary', 'action'])
    }
    expect(new Set(rules.map(({ alert }) => alert)).size).to.equal(rules.length)
  })
})

describe('the list of metrics in the documentation', () => {
  it('names every metric of the gateway’s own with its labels, and no other', async () => {
    const series = await readSeries()
    const own = [...series.keys()].filter((name) => /^(gateway|mcp)_/.test(name))
    const families = new Set(own.map((name) => name.replace(/_(bucket|sum|count)$/, '')))
    const page = readFileSync(`${ROOT}/docs/reference/metrics.md`, 'utf8')
    const listed = new Map(
      [...page.matchAll(/^\| `([a-z_]+)` \|([^|]*)\|/gm)].map(([, name = '', labels = '']) => [
        name,
        [...labels.matchAll(/`([a-z_]+)`/g)].map(([, label]) => label),
      ]),
    )
    expect([...listed.keys()]).to.have.members([...families])
    for (const [name, labels] of listed) {
      const shown = [name, `${name}_count`].flatMap((series_) => [...(series.get(series_)?.keys() ?? [])])
      expect(labels, name).to.have.members(shown)
    }
  })
})
