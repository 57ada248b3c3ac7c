/** The frozen configuration as every room gets it. What each setting means stands in schemas/config.schema.json. */
export interface Config {
  /** Absolute path of the file it was read from. */
  readonly file: string
  readonly listen: Listen
  readonly publicUrl: string | null
  readonly allowedHosts: readonly string[]
  readonly allowedOrigins: readonly string[]
  readonly trustedProxies: readonly string[]
  readonly tls: { readonly certFile: string; readonly keyFile: string } | null
  /** `listen` null: no admin listener. */
  readonly admin: { readonly listen: Listen | null; readonly allowedHosts: readonly string[] }
  /** Absolute path of the policies folder. */
  readonly policies: string
  readonly database: DatabaseConfig
  /** The one secret of a fleet; null only with the embedded database, which keeps one of its own. */
  readonly secret: string | null
  readonly auth: AuthConfig
  readonly upstreams: Readonly<Record<string, UpstreamConfig>>
  readonly federation: FederationConfig
  readonly limits: LimitsConfig
  readonly audit: AuditConfig
  readonly log: { readonly level: LogLevel }
}

/** An address to bind: numeric or named host and a port; port 0 = any free one. */
export interface Listen {
  readonly host: string
  readonly port: number
}

export interface DatabaseConfig {
  /** Connection of the runtime role; null = the embedded PostgreSQL. May hold a password. */
  readonly url: string | null
  /** Connection of the role that owns the tables; null = the same as `url`. May hold a password. */
  readonly migrateUrl: string | null
  /** Absolute path where the embedded PostgreSQL lives; null = the usual place for the folder of the file. */
  readonly dataDir: string | null
  /** Absolute path of the folder with `postgres` and `initdb`; null = look for them. */
  readonly binDir: string | null
}

export interface AuthConfig {
  readonly apiKeys: boolean
  /** Requests without a credential are let in as an anonymous administrator. Only ever true under `--dev`. */
  readonly anonymous: boolean
  readonly maxStaleS: number
  readonly throttle: {
    readonly maxFailures: number
    readonly windowS: number
  }
}

export interface UpstreamConfig {
  readonly url: string
  /** Sent with every request; values may be secrets. Names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
  readonly timeoutMs: number
  readonly connectTimeoutMs: number
  readonly idleTimeoutMs: number
  /** null = no bound of its own. */
  readonly maxInFlight: number | null
  readonly maxWaitMs: number
  /** null = no probes. */
  readonly probeIntervalMs: number | null
  readonly breaker: { readonly failures: number; readonly openMs: number }
  /** Settings of single tools by the upstream's own names. */
  readonly tools: Readonly<Record<string, ToolConfig>>
  readonly maxAnswerBytes: number
  /** Overrides `limits.max_input_bytes` for calls to this upstream; null = not. */
  readonly maxInputBytes: number | null
}

export interface ToolConfig {
  /** null = as for the upstream. */
  readonly timeoutMs: number | null
  /** JSON Pointers into the arguments and the result of its calls, whose values no row holds. */
  readonly redact: readonly string[]
}

/** The merged mount `/mcp`. */
export interface FederationConfig {
  readonly enabled: boolean
  readonly partTimeoutMs: number
}

export interface LimitsConfig {
  readonly maxBodyBytes: number
  readonly maxInputBytes: number
  readonly maxInFlight: number
  /** Of one principal; null = no bound. */
  readonly principalMaxInFlight: number | null
  readonly principalMaxDenialsPerMinute: number | null
  /** null = nothing is refused for want of time. */
  readonly maxDelayMs: number | null
  readonly maxStreamS: number
  readonly drainMs: number
  readonly policyFuel: number
  readonly policyMemoryMib: number
  readonly maxTraceBytes: number
  readonly maxTraceEvents: number
}

export interface AuditConfig {
  readonly enabled: boolean
  readonly mode: 'blocking'
  readonly onFailure: 'deny'
  readonly redactKeys: readonly string[]
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
