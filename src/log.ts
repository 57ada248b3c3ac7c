/** The log: JSON lines on stderr. One line per attempt, made from the same event as the audit row, without payloads. */
import type { DestinationStream, Logger } from 'pino'
import { destination, pino, stdTimeFunctions } from 'pino'
import type { Outcome } from './errors.ts'
import type { AuditEvent } from './gateway/types.ts'

/** What rooms log with. */
export type Log = Logger

/** What {@link createLog} needs. */
export interface LogOptions {
  readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent'
  /** Where lines go; stderr unless a test hands in another. */
  readonly stream?: DestinationStream
}

/**
 * Credentials have no business in a log line. Nothing hands them in; this net is for what a library puts into an error's
 * text: our keys, bearer tokens, passwords in URLs.
 */
const SECRETS: readonly (readonly [RegExp, string])[] = [
  [/gwk_([A-Za-z0-9]{1,32})_[A-Za-z0-9_-]+/g, 'gwk_$1_[redacted]'],
  [/\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}/gi, '$1 [redacted]'],
  [/([a-z][a-z0-9+.-]{1,20}:\/\/[^\s:@/"\\]{0,256}):[^\s@/"\\]{1,1024}@/gi, '$1:[redacted]@'],
]

/** Characters that JSON leaves as they are and that would rearrange or hide text in a terminal. */
const HIDDEN = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g

/** A pino logger that writes synchronously, so that the last line before a crash is there. */
export function createLog(options: LogOptions): Log {
  return pino(
    {
      level: options.level,
      base: null,
      messageKey: 'message',
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
      redact: {
        paths: ['password', 'secret', 'authorization', '*.password', '*.secret', '*.authorization'],
        censor: '[redacted]',
      },
      hooks: { streamWrite: cleanLine },
    },
    options.stream ?? destination({ dest: 2, sync: true }),
  )
}

function cleanLine(line: string): string {
  let clean = line.replace(HIDDEN, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
  for (const [pattern, replacement] of SECRETS) clean = clean.replace(pattern, replacement)
  return clean
}

/** Counts attempts; see `admin/metrics.ts`. */
export interface AttemptCounter {
  record(event: AuditEvent): void
}

/** What the spine calls with every finished attempt: writes the line and counts. Never throws. */
export function createObserver(log: Log, counter: AttemptCounter): (event: AuditEvent) => void {
  return (event) => {
    try {
      counter.record(event)
      writeLine(log, event)
    } catch (error) {
      log.error(
        { err: describeFault(error), request_id: event.call.requestId },
        'attempt could not be observed',
      )
    }
  }
}

function writeLine(log: Log, event: AuditEvent): void {
  const level = levelOf(event.ending.outcome)
  if (!log.isLevelEnabled(level)) return
  log[level](toAttemptLine(event), 'attempt')
}

/** Longest caller-made text in a line. */
const MAX_TEXT = 128

/** The members of an attempt's log line, a subset of the audit row under the same names. null members are left out. */
export function toAttemptLine(event: AuditEvent): Record<string, unknown> {
  const { call, ending } = event
  return withoutNulls({
    request_id: call.requestId,
    row_id: call.id === call.requestId ? null : call.id,
    outcome: ending.outcome,
    reason: ending.kind,
    status: ending.status,
    stage: ending.kind === null ? null : call.stage,
    latency_ms: round(ending.latencyMs),
    ...whoMembers(event),
    ...whatMembers(event),
    err: ending.kind === 'internal_error' ? describeFault(ending.error?.cause ?? ending.error) : null,
  })
}

function whoMembers({ call: { clientIp, head, principal } }: AuditEvent): Record<string, unknown> {
  const client = { client_ip: clientIp ?? head.peer }
  if (principal === null) return client
  return { ...client, principal: principal.id, api_key_id: principal.apiKeyId, tenant: principal.tenant }
}

function whatMembers({ call }: AuditEvent): Record<string, unknown> {
  const { message, target, evaluation, upstream } = call
  // A name that no list of ours knows is text of the caller's and may hold a secret: it stands in the row, redacted, and not
  // here. So do the names of resources and prompts, which no catalogue of ours confirms.
  const isKnown = evaluation !== null && target?.kind === 'tool'
  return {
    server: call.server?.name ?? null,
    method: target === null ? null : cut(message?.method ?? null),
    tool: isKnown ? cut(target.name) : null,
    ...(evaluation !== null && { policy_revision: evaluation.policy.revision }),
    ...(evaluation?.allow === false && { denied_by: evaluation.deniedBy }),
    ...(upstream !== null && {
      upstream_ms: round(upstream.ms),
      tool_is_error: upstream.toolIsError || null,
    }),
  }
}

function levelOf(outcome: Outcome): 'info' | 'warn' | 'error' {
  switch (outcome) {
    case 'internal_error':
    case 'gap':
    case 'interrupted':
      return 'error'
    case 'overloaded':
    case 'unavailable':
    case 'upstream_error':
    case 'upstream_timeout':
      return 'warn'
    case 'allowed':
    case 'denied_admit':
    case 'denied_auth':
    case 'denied_authz':
    case 'killed':
    case 'rate_limited':
    case 'invalid':
    case 'client_closed':
      return 'info'
    default:
      outcome satisfies never
      return 'error'
  }
}

/** Class and place of a fault. Its message may quote what the caller sent, so it stays in the (redacted) row. */
function describeFault(error: unknown): { type: string; at: readonly string[] } {
  if (!(error instanceof Error)) return { type: typeof error, at: [] }
  const frames = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line))
  return { type: error.name, at: frames.slice(0, 8).map((line) => line.trim()) }
}

function cut(text: string | null): string | null {
  return text === null || text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT)}…`
}

function round(ms: number): number {
  return Math.round(ms * 1000) / 1000
}

function withoutNulls(members: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== null))
}
