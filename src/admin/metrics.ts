/** The only file that knows the metrics library. Names follow the OpenTelemetry conventions for MCP where they have one. */
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import { METHOD_NAMES, SERVER_REQUESTS } from '../gateway/targets.ts'
import type { AuditEvent } from '../gateway/types.ts'
import { createHistogram } from './histogram.ts'

/** State of the audit writer when metrics are read. Counts since the start of the process. */
export interface AuditGauges {
  /** Rows that have been handed over and are not stored yet. */
  readonly pendingRows: number
  readonly pendingBytes: number
  /** How long the oldest of them has waited, ms; 0 when there is none. */
  readonly lagMs: number
  /** Rows stored. */
  readonly writtenRows: number
  /** Rows stored only in a sanitised or placeholder form. */
  readonly mendedRows: number
  /** Attempts to write that failed and were or will be repeated. */
  readonly failedWrites: number
  /** Rows given up: anything but 0 needs a person. */
  readonly lostRows: number
  /** Rows the database refused, kept in a file. */
  readonly deadLetters: number
  /** Rows taken over from the spools of processes that have died. */
  readonly recoveredRows: number
  /** Bytes of the spool on disk, and most it may have. */
  readonly spoolDiskBytes: number
  readonly spoolMaxBytes: number
  /** 1 while attempts can be recorded. */
  readonly accepting: number
}

/** State of one upstream when metrics are read. Names come from the configuration, so they are bounded. */
export interface UpstreamGauges {
  readonly name: string
  readonly status: 'unknown' | 'up' | 'down'
  readonly breaker: 'closed' | 'open' | 'half_open'
  /** Requests it is working on. */
  readonly inFlight: number
  /** Requests that wait for their turn. */
  readonly waiting: number
}

/** Load of the process when metrics are read. */
export interface LoadGauges {
  /** Delay of the event loop, ms. */
  readonly lagMs: number
  /** Calls that are being worked on, those that wait for clients and upstreams not counted. */
  readonly working: number
  /** Calls that wait for their turn. */
  readonly waiting: number
  /** All calls that were let in and are not answered yet. */
  readonly inFlight: number
}

/** What {@link createMetrics} needs. */
export interface MetricsOptions {
  /** Version of the gateway. */
  readonly version: string
  /** null when audit is off. */
  readonly audit: (() => AuditGauges) | null
  /** Kill switches in force, by what they stop; absent = not shown. */
  readonly kills?: () => { readonly tool: number; readonly server: number }
  /** The upstreams; absent = not shown. */
  readonly upstreams?: () => readonly UpstreamGauges[]
  /** Who is worked on and who waits; absent = not shown. */
  readonly load?: () => LoadGauges
  /** Whether process metrics (memory, event loop, garbage collection) are collected too. */
  readonly process: boolean
}

/** Policies in force. `sequence` null = of a folder. */
interface ServingPolicy {
  readonly revision: string
  readonly digest: string
  readonly sequence?: number | null
}

/** Counts attempts and shows the counts. */
export interface Metrics {
  record(event: AuditEvent): void
  /** So many attempts were turned away at the door; they are not recorded one by one. */
  recordTurnedAway(count: number): void
  /** The policy revision now serving. */
  setPolicy(policy: ServingPolicy): void
  /** A reload of the policies has ended; `serving` is what serves now. */
  recordReload(result: 'replaced' | 'unchanged' | 'failed', serving: ServingPolicy): void
  /** How long a request has waited for its turn at an upstream, ms. */
  recordUpstreamWait(server: string, ms: number): void
  /** Size of an audit row as it is handed over, in bytes of JSON. */
  recordAuditRow(bytes: number): void
  readonly contentType: string
  /** Text in the Prometheus exposition format. */
  text(): Promise<string>
}

/** Seconds. The conventions' buckets, and three below them for the gateway's own overhead. */
const OPERATION_BUCKETS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300,
]
const EVAL_BUCKETS = [0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1]

const ROW_BUCKETS = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144, 524_288]
const WAIT_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]

/** Methods that may be a label. What callers make up becomes `other`: labels must stay bounded. */
const METHODS = new Set([...METHOD_NAMES, ...SERVER_REQUESTS, 'response', 'GET', 'DELETE'])

/** A registry of its own: two gateways in one process do not mix. */
export function createMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry()
  const registers = [registry]
  if (options.process) collectDefaultMetrics({ register: registry })
  new Gauge({
    name: 'gateway_build_info',
    help: 'The version of the gateway and of Node.js.',
    labelNames: ['version', 'node'],
    registers,
  }).set({ version: options.version, node: process.version }, 1)
  const waits = createHistogram({
    name: 'gateway_upstream_wait_seconds',
    help: 'Time requests waited for their turn at an upstream, also those that gave up.',
    labelNames: ['server'],
    buckets: WAIT_BUCKETS,
    registers,
  })
  const rowBytes = createHistogram({
    name: 'gateway_audit_row_bytes',
    help: 'Size of audit rows in bytes of JSON, before the database compresses them.',
    buckets: ROW_BUCKETS,
    registers,
  })
  if (options.audit !== null) addAuditMetrics(registers, options.audit)
  if (options.upstreams !== undefined) addUpstreamMetrics(registers, options.upstreams)
  if (options.load !== undefined) addLoadMetrics(registers, options.load)
  if (options.kills !== undefined) addKillMetrics(registers, options.kills)

  return {
    ...addAttemptMetrics(registers),
    ...addPolicyMetrics(registers),
    recordUpstreamWait: (server, ms) => waits.observe(ms / 1000, server),
    recordAuditRow: (bytes) => rowBytes.observe(bytes),
    contentType: registry.contentType,
    text: () => registry.metrics(),
  }
}

/** Attempts, and where their time went. */
function addAttemptMetrics(registers: Registry[]): Pick<Metrics, 'record' | 'recordTurnedAway'> {
  const outcomes = new Map<string, number>()
  const count = (outcome: string, by: number): void =>
    void outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + by)
  new Counter({
    name: 'gateway_attempts_total',
    help: 'Attempts by outcome, as in the audit table.',
    labelNames: ['outcome'],
    registers,
    collect() {
      this.reset()
      for (const [outcome, attempts] of outcomes) this.inc({ outcome }, attempts)
    },
  })
  const operations = createHistogram({
    name: 'mcp_server_operation_duration_seconds',
    help: 'Duration of an attempt as the client saw it.',
    labelNames: ['mcp_method_name', 'error_type'],
    buckets: OPERATION_BUCKETS,
    registers,
  })
  const upstreams = createHistogram({
    name: 'mcp_client_operation_duration_seconds',
    help: 'Duration of the upstream part of an attempt.',
    labelNames: ['server'],
    buckets: OPERATION_BUCKETS,
    registers,
  })
  const evaluations = createHistogram({
    name: 'gateway_policy_eval_seconds',
    help: 'Duration of the policy evaluation that decided an attempt.',
    buckets: EVAL_BUCKETS,
    registers,
  })
  const queue = createHistogram({
    name: 'gateway_queue_seconds',
    help: 'Time attempts waited for their turn in the gateway, also those that gave up.',
    buckets: WAIT_BUCKETS,
    registers,
  })
  return {
    record({ call, ending }) {
      count(ending.outcome, 1)
      const { upstream, message } = call
      operations.observe(ending.latencyMs / 1000, methodLabel(message?.method), errorType(upstream, ending))
      if (call.timingsUs.queue !== undefined) queue.observe(call.timingsUs.queue / 1e6)
      if (upstream !== null) upstreams.observe(upstream.ms / 1000, upstream.server)
      if (call.evaluation !== null) evaluations.observe(call.evaluation.evalUs / 1e6)
    },
    recordTurnedAway: (attempts) => count('overloaded', attempts),
  }
}

function methodLabel(method: string | undefined): string {
  if (method === undefined) return 'none'
  return METHODS.has(method) ? method : 'other'
}

/** Empty when all went well; `tool_error` as the conventions ask for a result with `isError`. */
function errorType(upstream: AuditEvent['call']['upstream'], ending: AuditEvent['ending']): string {
  if (ending.kind !== null) return ending.kind
  if (upstream === null) return ''
  if (upstream.toolIsError) return 'tool_error'
  return upstream.jsonRpcError === null ? '' : 'json_rpc_error'
}

const AUDIT_METRICS: readonly {
  readonly name: string
  readonly help: string
  readonly member: keyof AuditGauges
  readonly kind: 'counter' | 'gauge'
  /** Multiplies the value into the unit of the name. */
  readonly scale?: number
}[] = [
  { name: 'gateway_audit_spool_rows', help: 'Rows not stored yet.', member: 'pendingRows', kind: 'gauge' },
  {
    name: 'gateway_audit_spool_bytes',
    help: 'Bytes of those rows.',
    member: 'pendingBytes',
    kind: 'gauge',
  },
  {
    name: 'gateway_audit_lag_seconds',
    help: 'How long the oldest of those rows has waited.',
    member: 'lagMs',
    kind: 'gauge',
    scale: 0.001,
  },
  { name: 'gateway_audit_rows_total', help: 'Rows stored.', member: 'writtenRows', kind: 'counter' },
  {
    name: 'gateway_audit_mended_rows_total',
    help: 'Rows the database refused and took in a sanitised form.',
    member: 'mendedRows',
    kind: 'counter',
  },
  {
    name: 'gateway_audit_write_failures_total',
    help: 'Writes that failed and are repeated.',
    member: 'failedWrites',
    kind: 'counter',
  },
  {
    name: 'gateway_audit_lost_rows_total',
    help: 'Rows given up. Anything but 0 needs a person.',
    member: 'lostRows',
    kind: 'counter',
  },
  {
    name: 'gateway_audit_dead_letters_total',
    help: 'Rows the database refused, kept in a file beside the spool.',
    member: 'deadLetters',
    kind: 'counter',
  },
  {
    name: 'gateway_audit_recovered_rows_total',
    help: 'Rows taken over from the spools of processes that have died.',
    member: 'recoveredRows',
    kind: 'counter',
  },
  {
    name: 'gateway_audit_spool_disk_bytes',
    help: 'Bytes of the spool on disk.',
    member: 'spoolDiskBytes',
    kind: 'gauge',
  },
  {
    name: 'gateway_audit_spool_max_bytes',
    help: 'Most bytes the spool may have.',
    member: 'spoolMaxBytes',
    kind: 'gauge',
  },
  {
    name: 'gateway_audit_accepting',
    help: '1 while attempts can be recorded.',
    member: 'accepting',
    kind: 'gauge',
  },
]

function addPolicyMetrics(registers: Registry[]): Pick<Metrics, 'setPolicy' | 'recordReload'> {
  const policyInfo = new Gauge({
    name: 'gateway_policy_info',
    help: 'The policy revision now serving.',
    labelNames: ['revision', 'digest'],
    registers,
  })
  const reloads = new Counter({
    name: 'gateway_policy_reloads_total',
    help: 'Readings of changed policies by result: replaced, unchanged, failed.',
    labelNames: ['result'],
    registers,
  })
  const reloadFailed = new Gauge({
    name: 'gateway_policy_reload_failed',
    help: '1 while the newest policies cannot be put in force and the last good ones serve.',
    registers,
  })
  const sequences = new Gauge({
    name: 'gateway_policy_sequence',
    help: 'The sequence of the bundle now serving; absent for a folder.',
    registers,
  })
  sequences.remove()
  const setPolicy: Metrics['setPolicy'] = ({ revision, digest, sequence = null }) => {
    policyInfo.reset()
    policyInfo.set({ revision, digest }, 1)
    if (sequence === null) sequences.remove()
    else sequences.set(sequence)
  }
  return {
    setPolicy,
    recordReload(result, serving) {
      reloads.inc({ result })
      reloadFailed.set(result === 'failed' ? 1 : 0)
      setPolicy(serving)
    },
  }
}

function addKillMetrics(registers: Registry[], counts: () => { tool: number; server: number }): void {
  new Gauge({
    name: 'gateway_kill_switches',
    help: 'Kill switches in force.',
    labelNames: ['kind'],
    registers,
    collect() {
      for (const [kind, count] of Object.entries(counts())) this.set({ kind }, count)
    },
  })
}

/** The writer keeps its own counts; they are copied when somebody reads the metrics. */
function addAuditMetrics(registers: Registry[], read: () => AuditGauges): void {
  for (const { name, help, member, kind, scale = 1 } of AUDIT_METRICS) {
    if (kind === 'gauge') {
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read()[member] * scale)
        },
      })
    } else {
      new Counter({
        name,
        help,
        registers,
        collect() {
          this.reset()
          this.inc(read()[member] * scale)
        },
      })
    }
  }
}

const BREAKER_STATES = ['closed', 'open', 'half_open'] as const

function addUpstreamMetrics(registers: Registry[], read: () => readonly UpstreamGauges[]): void {
  const gauges: readonly [name: string, help: string, value: (one: UpstreamGauges) => number | null][] = [
    [
      'gateway_upstream_up',
      'Whether the upstream works; absent until it was asked.',
      ({ status }) => (status === 'unknown' ? null : Number(status === 'up')),
    ],
    ['gateway_upstream_in_flight', 'Requests the upstream is working on.', ({ inFlight }) => inFlight],
    ['gateway_upstream_waiting', 'Requests that wait for their turn.', ({ waiting }) => waiting],
  ]
  for (const [name, help, gaugeOf] of gauges) {
    new Gauge({
      ...{ name, help, registers, labelNames: ['server'] },
      collect() {
        this.reset()
        for (const one of read()) {
          const value = gaugeOf(one)
          if (value !== null) this.set({ server: one.name }, value)
        }
      },
    })
  }
  new Gauge({
    name: 'gateway_upstream_breaker_state',
    help: 'State of the circuit breaker: 1 for the one it is in.',
    labelNames: ['server', 'state'],
    registers,
    collect() {
      for (const one of read()) {
        for (const state of BREAKER_STATES) {
          this.set({ server: one.name, state }, Number(one.breaker === state))
        }
      }
    },
  })
}

function addLoadMetrics(registers: Registry[], read: () => LoadGauges): void {
  const gauges: readonly [name: string, help: string, pick: (load: LoadGauges) => number][] = [
    [
      'gateway_event_loop_lag_seconds',
      'Delay of the event loop at its last measurement.',
      ({ lagMs }) => lagMs / 1000,
    ],
    [
      'gateway_calls_working',
      'Calls that are being worked on in the gateway itself.',
      ({ working }) => working,
    ],
    ['gateway_calls_waiting', 'Calls that wait for their turn.', ({ waiting }) => waiting],
    [
      'gateway_calls_in_flight',
      'Calls that were let in and are not answered yet.',
      ({ inFlight }) => inFlight,
    ],
  ]
  for (const [name, help, pick] of gauges) {
    new Gauge({
      ...{ name, help, registers },
      collect() {
        this.set(pick(read()))
      },
    })
  }
}
