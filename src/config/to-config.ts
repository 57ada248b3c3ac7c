import { dirname, resolve } from 'node:path'
import type { Environment } from './interpolate.ts'
import { isLoopback, parseListen } from './listen.ts'
import type {
  AnchorConfig,
  AuditPayload,
  Config,
  Listen,
  LogLevel,
  StdioConfig,
  UpstreamConfig,
} from './types.ts'
import type { CredentialSettings, UpstreamTlsSettings } from './upstream-credential.ts'
import { toCredential, toUpstreamTls } from './upstream-credential.ts'

/** The settings under their names in gateway.yaml, once they have the shape of the schema. */
export interface SettingsTree {
  readonly listen: string
  readonly public_url: string | null
  readonly allowed_hosts: readonly string[]
  readonly allowed_origins: readonly string[]
  readonly trusted_proxies: readonly string[]
  readonly deny_as: 'http' | 'in_band'
  readonly tls: { readonly cert_file: string; readonly key_file: string } | null
  readonly admin: {
    readonly listen: string
    readonly allow_wildcard: boolean
    readonly allowed_hosts: readonly string[]
  }
  readonly policies: string
  readonly policy_keys: readonly string[]
  readonly database: {
    readonly url: string | null
    readonly migrate_url: string | null
    readonly data_dir: string | null
    readonly bin_dir: string | null
  }
  readonly secret: string | null
  readonly auth: {
    readonly api_keys: boolean
    readonly max_stale_s: number
    readonly throttle: { readonly max_failures: number; readonly window_s: number }
  }
  readonly upstreams: Readonly<Record<string, UpstreamSettings>>
  readonly federation: { readonly enabled: boolean; readonly part_timeout_ms: number }
  readonly limits: {
    readonly max_body_bytes: number
    readonly max_input_bytes: number
    readonly max_in_flight: number
    readonly principal_max_in_flight: number | null
    readonly principal_max_denials_per_minute: number | null
    readonly max_delay_ms: number | null
    readonly max_stream_s: number
    readonly drain_ms: number
    readonly policy_fuel: number
    readonly policy_memory_mib: number
    readonly max_trace_bytes: number
    readonly max_trace_events: number
  }
  readonly audit: {
    readonly enabled: boolean
    readonly mode: 'batch' | 'durable' | 'blocking'
    readonly on_failure: 'deny' | 'gap'
    readonly spool_dir: string | null
    readonly spool_max_bytes: number
    readonly redact_keys: readonly string[]
    readonly payload: AuditPayload
    readonly trace_encoding: 'readable' | 'compact'
    readonly retention_days: number | null
    readonly archive_dir: string | null
    readonly signing_key: string | null
    readonly anchors: readonly { readonly file?: string; readonly log?: true; readonly url?: string }[]
  }
  readonly log: { readonly level: LogLevel }
}

/** One upstream under its names in gateway.yaml. */
export interface UpstreamSettings {
  readonly url: string | null
  readonly command: readonly string[] | null
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string | null
  readonly sessions: 'per_session' | 'shared'
  readonly max_children: number
  readonly session_idle_ms: number
  readonly start_timeout_ms: number
  readonly headers: Readonly<Record<string, string>>
  readonly credential: CredentialSettings | null
  readonly tls: UpstreamTlsSettings | null
  readonly labels: Readonly<Record<string, string>>
  readonly timeout_ms: number
  readonly connect_timeout_ms: number
  readonly idle_timeout_ms: number
  readonly max_in_flight: number | null
  readonly max_wait_ms: number
  readonly probe_interval_ms: number | null
  readonly breaker: { readonly failures: number; readonly open_ms: number }
  readonly tools: Readonly<
    Record<
      string,
      {
        readonly timeout_ms: number | null
        readonly redact: readonly string[]
        readonly audit_payload: AuditPayload | null
      }
    >
  >
  readonly audit_payload: AuditPayload | null
  readonly max_answer_bytes: number
  readonly max_input_bytes: number | null
}

/** What a configuration is made of besides its settings. */
export interface ConfigSurroundings {
  /** Absolute path of the file. */
  readonly file: string
  readonly dev: boolean
  readonly environment: Environment
}

/** Checked settings -> the frozen configuration the rooms get. */
export function toConfig(tree: SettingsTree, { file, dev, environment }: ConfigSurroundings): Config {
  const { database, auth, limits, audit } = tree
  return deepFreeze({
    file,
    listen: toListen(tree.listen),
    publicUrl: tree.public_url,
    allowedHosts: tree.allowed_hosts,
    allowedOrigins: tree.allowed_origins,
    trustedProxies: tree.trusted_proxies,
    denyAs: tree.deny_as,
    tls: tree.tls === null ? null : { certFile: tree.tls.cert_file, keyFile: tree.tls.key_file },
    admin: {
      listen: tree.admin.listen === 'off' ? null : toListen(tree.admin.listen),
      allowedHosts: tree.admin.allowed_hosts,
    },
    policies: tree.policies,
    policyKeys: tree.policy_keys,
    database: {
      url: database.url,
      migrateUrl: database.migrate_url,
      dataDir: database.data_dir,
      binDir: database.bin_dir,
    },
    secret: tree.secret,
    auth: {
      apiKeys: auth.api_keys,
      anonymous: dev && isLoopback(toListen(tree.listen).host),
      maxStaleS: auth.max_stale_s,
      throttle: { maxFailures: auth.throttle.max_failures, windowS: auth.throttle.window_s },
    },
    upstreams: toUpstreams(tree, dirname(file), environment),
    federation: {
      enabled: tree.federation.enabled,
      partTimeoutMs: tree.federation.part_timeout_ms,
    },
    limits: {
      maxBodyBytes: limits.max_body_bytes,
      maxInputBytes: limits.max_input_bytes,
      maxInFlight: limits.max_in_flight,
      principalMaxInFlight: limits.principal_max_in_flight,
      principalMaxDenialsPerMinute: limits.principal_max_denials_per_minute,
      maxDelayMs: limits.max_delay_ms,
      maxStreamS: limits.max_stream_s,
      drainMs: limits.drain_ms,
      policyFuel: limits.policy_fuel,
      policyMemoryMib: limits.policy_memory_mib,
      maxTraceBytes: limits.max_trace_bytes,
      maxTraceEvents: limits.max_trace_events,
    },
    audit: {
      enabled: audit.enabled,
      mode: audit.mode,
      onFailure: audit.on_failure,
      spoolDir: audit.spool_dir,
      spoolMaxBytes: audit.spool_max_bytes,
      redactKeys: audit.redact_keys,
      payload: audit.payload,
      traceEncoding: audit.trace_encoding,
      retentionDays: audit.retention_days,
      archiveDir: audit.archive_dir,
      signingKey: audit.signing_key,
      anchors: audit.anchors.map((anchor) => toAnchor(anchor, file)),
    },
    log: { level: tree.log.level },
  })
}

function toUpstreams(
  { upstreams }: SettingsTree,
  folder: string,
  environment: Environment,
): Config['upstreams'] {
  const entries = Object.entries(upstreams).map(([name, settings]) => {
    return [name, toUpstream(settings, toStdio(settings, folder, environment))] as const
  })
  return Object.fromEntries(entries)
}

function toUpstream(settings: UpstreamSettings, stdio: StdioConfig | null): UpstreamConfig {
  return {
    url: settings.url,
    stdio,
    headers: Object.fromEntries(
      Object.entries(settings.headers).map(([name, value]) => [name.toLowerCase(), value]),
    ),
    credential: settings.credential === null ? null : toCredential(settings.credential),
    tls: settings.tls === null ? null : toUpstreamTls(settings.tls),
    labels: settings.labels,
    timeoutMs: settings.timeout_ms,
    connectTimeoutMs: settings.connect_timeout_ms,
    idleTimeoutMs: settings.idle_timeout_ms,
    maxInFlight: settings.max_in_flight,
    maxWaitMs: settings.max_wait_ms,
    probeIntervalMs: settings.probe_interval_ms,
    breaker: { failures: settings.breaker.failures, openMs: settings.breaker.open_ms },
    tools: Object.fromEntries(
      Object.entries(settings.tools).map(([name, tool]) => [
        name,
        { timeoutMs: tool.timeout_ms, redact: tool.redact, auditPayload: tool.audit_payload },
      ]),
    ),
    auditPayload: settings.audit_payload,
    maxAnswerBytes: settings.max_answer_bytes,
    maxInputBytes: settings.max_input_bytes,
  }
}

/**
 * What programs cannot do without, or people cannot read the output without. Everything else of the gateway's environment
 * (its secret, its database, credentials of other upstreams) stays with the gateway.
 */
const INHERITED = ['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'TMPDIR', 'LANG', 'LC_ALL', 'LC_CTYPE', 'TZ']

function toStdio(settings: UpstreamSettings, folder: string, environment: Environment): StdioConfig | null {
  if (settings.command === null) return null
  const inherited = INHERITED.flatMap((name) => {
    const value = environment[name]
    return value === undefined ? [] : [[name, value] as const]
  })
  return {
    command: settings.command,
    env: { ...Object.fromEntries(inherited), ...settings.env },
    secrets: Object.values(settings.env),
    cwd: resolve(folder, settings.cwd ?? '.'),
    sessions: settings.sessions,
    maxChildren: settings.max_children,
    sessionIdleMs: settings.session_idle_ms,
    startTimeoutMs: settings.start_timeout_ms,
  }
}

/** Files start at the folder of the configuration. */
function toAnchor({ file, url }: SettingsTree['audit']['anchors'][number], configFile: string): AnchorConfig {
  if (file !== undefined) return { kind: 'file', file: resolve(dirname(configFile), file) }
  return url === undefined ? { kind: 'log' } : { kind: 'url', url }
}

function toListen(text: string): Listen {
  const listen = parseListen(text)
  if (listen === null) throw new TypeError('an address passed the schema and is none')
  return listen
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  Object.freeze(value)
  for (const inner of Object.values(value)) deepFreeze(inner)
  return value
}
