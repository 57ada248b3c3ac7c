/** A stdio upstream from its configuration. */
import { basename } from 'node:path'
import { UsageError } from '../../errors.ts'
import type { ForwardTarget, Transport } from '../forward.ts'
import type { UpstreamLog } from '../upstream.ts'
import { createStdioBridge } from './bridge.ts'
import type { Guard } from './guard.ts'

/** How one stdio server is started and shared. All of it is configuration; nothing of it ever comes from a caller. */
export interface StdioSettings {
  /** Program and arguments; no shell reads them. */
  readonly command: readonly string[]
  /** The whole environment of the process. */
  readonly env: Readonly<Record<string, string>>
  /** Values of `env` that the log must not show. */
  readonly secrets: readonly string[]
  /** Absolute. */
  readonly cwd: string
  readonly sessions: 'per_session' | 'shared'
  /** Servers for sessions at the same time. */
  readonly maxChildren: number
  readonly sessionIdleMs: number
  readonly startTimeoutMs: number
}

/** What the way to a stdio server is made with. */
export interface StdioParts {
  readonly name: string
  readonly settings: { readonly maxAnswerBytes: number }
  readonly stdio: StdioSettings
  readonly guard: Guard
  readonly limits: { readonly stopGraceMs: number }
  readonly version: string
  readonly clock: { monotonicMs(): number }
  readonly random: () => number
  readonly log: UpstreamLog
}

/** A stdio server has no address and no headers; no connection is ever made to this one (RFC 2606). */
export const STDIO_TARGET: Pick<ForwardTarget, 'url' | 'own' | 'credential' | 'tls'> = {
  url: new URL('http://stdio.invalid/'),
  own: { configured: {}, userAgent: 'mcp-policy-gateway' },
  credential: null,
  tls: null,
}

/** Throws a UsageError where processes cannot be started and ended as they must. Starts nothing yet. */
export function openStdio(parts: StdioParts): { readonly address: string; readonly transport: Transport } {
  const { name, settings, stdio, guard, limits, log, clock } = parts
  if (process.platform === 'win32')
    throw new UsageError(
      'config',
      `upstreams.${name}.command: stdio servers need process groups, which Windows does not have; run the gateway in WSL or a container, or give the url of an HTTP server`,
    )
  const { command, env, cwd, secrets, sessions, maxChildren, sessionIdleMs, startTimeoutMs } = stdio
  const transport = createStdioBridge({
    command: {
      ...{ upstream: name, command, env, cwd, secrets },
      maxMessageBytes: settings.maxAnswerBytes,
      graceMs: limits.stopGraceMs,
    },
    surroundings: { guard, log, clock },
    ...{ sessions, maxChildren, sessionIdleMs, startTimeoutMs },
    version: parts.version,
    random: parts.random,
  })
  return { address: addressOf(stdio), transport }
}

/** What operators see: arguments may hold secrets. */
export function addressOf({ command }: Pick<StdioSettings, 'command'>): string {
  return `stdio:${basename(command[0] ?? '')}`
}
