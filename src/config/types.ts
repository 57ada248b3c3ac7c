/** The frozen configuration as every room gets it. What each setting means stands in schemas/config.schema.json. */
export interface Config {
  /** Absolute path of the file it was read from. */
  readonly file: string
  readonly listen: Listen
  readonly publicUrl: string | null
  readonly allowedHosts: readonly string[]
  readonly allowedOrigins: readonly string[]
  readonly trustedProxies: readonly string[]
  /** How a request is told that it was refused: by the HTTP status, or in the message alone. */
  readonly denyAs: 'http' | 'in_band'
  readonly tls: { readonly certFile: string; readonly keyFile: string } | null
  /** `listen` null: no admin listener. */
  readonly admin: { readonly listen: Listen | null; readonly allowedHosts: readonly string[] }
  /** Absolute path of the policies folder or bundle, or {@link PUBLISHED_POLICIES}. */
  readonly policies: string
  /** Absolute paths of PEM files; empty = signatures are not asked for. */
  readonly policyKeys: readonly string[]
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

/** `policies` that are taken from the database. */
export const PUBLISHED_POLICIES = 'postgres:'

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
  /** null = a stdio server. */
  readonly url: string | null
  /** null = an HTTP server. */
  readonly stdio: StdioConfig | null
  /** Sent with every request; values may be secrets. Names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  /** null = none but the headers. */
  readonly credential: UpstreamCredentialConfig | null
  /** Absolute paths; null = the authorities that Node knows, and no certificate of our own. */
  readonly tls: {
    readonly caFile: string | null
    readonly client: { readonly certFile: string; readonly keyFile: string } | null
  } | null
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
  /** Overrides `audit.payload`; null = not. So does that of a tool. */
  readonly auditPayload: AuditPayload | null
  readonly maxAnswerBytes: number
  /** Overrides `limits.max_input_bytes` for calls to this upstream; null = not. */
  readonly maxInputBytes: number | null
}

/** How the gateway proves itself to one upstream while it runs. Paths are absolute. */
export type UpstreamCredentialConfig =
  | {
      readonly kind: 'token_file'
      readonly file: string
      /** In lower case. */
      readonly header: string
      readonly scheme: string | null
    }
  | {
      readonly kind: 'client_credentials'
      readonly tokenUrl: string
      readonly clientId: string
      readonly proof: ClientProofConfig
      readonly scopes: readonly string[]
      readonly resource: string | null
      readonly parameters: Readonly<Record<string, string>>
    }

/** `secret` holds a secret. */
export type ClientProofConfig =
  | { readonly kind: 'secret'; readonly secret: string; readonly method: ClientSecretMethod }
  | { readonly kind: 'secret_file'; readonly file: string; readonly method: ClientSecretMethod }
  | {
      readonly kind: 'private_key'
      readonly file: string
      readonly keyId: string | null
      readonly audience: string | null
    }

export type ClientSecretMethod = 'client_secret_basic' | 'client_secret_post'

/** How a stdio server is started and shared. */
export interface StdioConfig {
  /** Program and arguments; not empty. May hold secrets. */
  readonly command: readonly string[]
  /** Its whole environment: what every process needs, and what is configured. May hold secrets. */
  readonly env: Readonly<Record<string, string>>
  /** Values that were configured for it. */
  readonly secrets: readonly string[]
  /** Absolute path of its working folder. */
  readonly cwd: string
  readonly sessions: 'per_session' | 'shared'
  readonly maxChildren: number
  readonly sessionIdleMs: number
  readonly startTimeoutMs: number
}

export interface ToolConfig {
  /** null = as for the upstream. */
  readonly timeoutMs: number | null
  /** JSON Pointers into the arguments and the result of its calls, whose values no row holds. */
  readonly redact: readonly string[]
  /** Overrides that of the upstream; null = not. */
  readonly auditPayload: AuditPayload | null
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
  /** Longest wait for a turn; null = nothing is refused for want of time. */
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
  readonly mode: 'batch' | 'durable' | 'blocking'
  readonly onFailure: 'deny' | 'gap'
  /** Absolute path; null = the usual place. */
  readonly spoolDir: string | null
  readonly spoolMaxBytes: number
  readonly redactKeys: readonly string[]
  readonly payload: AuditPayload
  readonly traceEncoding: 'readable' | 'compact'
  /** null = rows are kept for ever. */
  readonly retentionDays: number | null
  /** Absolute path; null = days are removed without an archive. */
  readonly archiveDir: string | null
  /** Ed25519 private key, PEM; null = the embedded database's own, or none. */
  readonly signingKey: string | null
  /** Where checkpoints go besides the database. */
  readonly anchors: readonly AnchorConfig[]
}

/** How much a row keeps of what was sent. */
export type AuditPayload = 'full' | 'request' | 'metadata'

/** One place for checkpoints; `file` is absolute, `url` may hold a secret. */
export type AnchorConfig =
  | { readonly kind: 'file'; readonly file: string }
  | { readonly kind: 'log' }
  | { readonly kind: 'url'; readonly url: string }

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
