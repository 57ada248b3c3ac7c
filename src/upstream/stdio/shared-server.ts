/**
 * A stdio server that many clients use at the same time. For 2025-x revisions the gateway is its client and does the
 * handshake; what the server asks is refused, because nobody could say which of the clients it is for. On 2026-07-28 every
 * request stands alone, so that the clients speak for themselves.
 */
import { GatewayError, toGatewayError } from '../../errors.ts'
import { asObject } from '../../json/object.ts'
import { findValue, replaceSpans, sliceOf } from '../../json/span.ts'
import type { ChildSurroundings, StdioCommand } from './child.ts'
import { StartFault } from './child.ts'
import type { Link, Unsolicited } from './link.ts'
import { openLink } from './link.ts'
import type { Supervisor } from './supervisor.ts'
import { createSupervisor } from './supervisor.ts'

/** A server that is ready for requests. */
export interface ReadyServer {
  readonly link: Link
  /** JSON text of the result of the handshake, as clients get it; null on 2026-07-28. */
  readonly resultText: string | null
}

/** The server speaks, but not this era. */
class WrongEraError extends GatewayError {
  constructor() {
    super('upstream_failed', { detail: 'it does not speak this era of MCP' })
  }
}

/** What a shared server is made with. */
export interface SharedServerOptions {
  readonly command: StdioCommand
  readonly surroundings: ChildSurroundings & { readonly clock: { monotonicMs(): number } }
  readonly random: () => number
  readonly startTimeoutMs: number
  /** What the handshake claims: nothing where clients share the server, whose requests could be for any of them. */
  readonly capabilities: object
  /** Version of the gateway, as servers see it. */
  readonly version: string
  readonly onUnsolicited: (link: Link, message: Unsolicited) => void
  /** It has come up, for the first time or again. */
  readonly onReady: (link: Link) => void
}

/** A server that many use, started again when it ends. */
export interface SharedServer {
  /** Throws `upstream_failed`; see {@link inEra}. */
  get(): Promise<ReadyServer>
  /** The one that is running or coming up; null when there is none. */
  running(): Promise<ReadyServer> | null
  close(): Promise<void>
}

/** Newest revision with a handshake. */
const LEGACY_VERSION = '2025-11-25'
const MODERN_VERSION = '2026-07-28'
/** A server of the other era need not answer at all. */
const SILENCE_MS = 5000
/** How long a server is held to what it said (or did not say) about an era. */
const ANSWERED_VERDICT_MS = 5 * 60_000
const SILENT_VERDICT_MS = 60_000

/** Served in one process per upstream and era. */
export function createSharedServer(era: 'legacy' | 'modern', options: SharedServerOptions): SharedServer {
  const { clock } = options.surroundings
  const links = new Set<Link>()
  let wrongEraUntil = Number.NEGATIVE_INFINITY
  let wasReady = false

  async function start(onEnd: () => void): Promise<ReadyServer> {
    let isReady = false
    const link = openLink({
      command: options.command,
      surroundings: options.surroundings,
      hooks: {
        onUnsolicited: (message) => options.onUnsolicited(link, message),
        onEnd: () => {
          links.delete(link)
          if (isReady) onEnd()
        },
      },
    })
    links.add(link)
    try {
      const resultText = era === 'legacy' ? await handshake(link, options) : await discover(link, options)
      isReady = true
      wasReady = true
      options.onReady(link)
      return { link, resultText }
    } catch (thrown) {
      void link.close()
      // Some servers end when they are asked anything but `initialize`.
      const holdsMs = thrown instanceof EraVerdict ? thrown.holdsMs : SILENT_VERDICT_MS
      const isVerdict = thrown instanceof EraVerdict || (era === 'modern' && !(thrown instanceof StartFault))
      if (!isVerdict || wasReady) throw toGatewayError(thrown)
      wrongEraUntil = clock.monotonicMs() + holdsMs
      throw new WrongEraError()
    }
  }

  const supervisor: Supervisor<ReadyServer> = createSupervisor({ start, clock, random: options.random })

  return {
    async get() {
      if (clock.monotonicMs() < wrongEraUntil) throw new WrongEraError()
      return await supervisor.get()
    },
    running: supervisor.current,
    async close() {
      supervisor.close()
      await Promise.all([...links].map((link) => link.close()))
    },
  }
}

/** What a server said about an era, and for how long that counts. */
class EraVerdict extends GatewayError {
  readonly holdsMs: number

  constructor(holdsMs: number) {
    super('upstream_failed', { detail: 'it does not speak the era of MCP it spoke before' })
    this.holdsMs = holdsMs
  }
}

async function handshake(
  link: Link,
  { startTimeoutMs, version, capabilities }: SharedServerOptions,
): Promise<string> {
  const params = {
    protocolVersion: LEGACY_VERSION,
    capabilities,
    clientInfo: { name: 'mcp-policy-gateway', version },
  }
  const answer = await askOnce(link, 'initialize', params, startTimeoutMs)
  if (answer === null)
    throw new GatewayError('upstream_timeout', { detail: `it did not start within ${startTimeoutMs} ms` })
  const result = findValue(answer, ['result'])
  if (result === null) throw new EraVerdict(ANSWERED_VERDICT_MS)
  link.tell('{"jsonrpc":"2.0","method":"notifications/initialized"}')
  return withoutLogging(sliceOf(answer, result))
}

/** What a server logs for one client is no other client's business, and nothing in a log message says whose it is. */
function withoutLogging(resultText: string): string {
  const span = findValue(resultText, ['capabilities'])
  const capabilities = span === null ? null : asObject(JSON.parse(sliceOf(resultText, span)))
  if (span === null || capabilities === null || !('logging' in capabilities)) return resultText
  const { logging: _, ...kept } = capabilities
  return replaceSpans(resultText, [{ span, text: JSON.stringify(kept) }])
}

async function discover(link: Link, { startTimeoutMs, version }: SharedServerOptions): Promise<null> {
  const params = {
    _meta: {
      'io.modelcontextprotocol/protocolVersion': MODERN_VERSION,
      'io.modelcontextprotocol/clientCapabilities': {},
      'io.modelcontextprotocol/clientInfo': { name: 'mcp-policy-gateway', version },
    },
  }
  const answer = await askOnce(link, 'server/discover', params, Math.min(startTimeoutMs, SILENCE_MS))
  if (answer === null) throw new EraVerdict(SILENT_VERDICT_MS)
  const versions = asObject(asObject(JSON.parse(answer))?.['result'])?.['supportedVersions']
  if (!Array.isArray(versions) || !versions.includes(MODERN_VERSION))
    throw new EraVerdict(ANSWERED_VERDICT_MS)
  return null
}

/** The text of the response; null when there was none in time. Throws what the server ended with. */
function askOnce(link: Link, method: string, params: object, timeoutMs: number): Promise<string | null> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(null), timeoutMs)
    const settle = <T>(done: (value: T) => void, value: T): void => {
      clearTimeout(timer)
      done(value)
    }
    const text = JSON.stringify({ jsonrpc: '2.0', id: 0, method, params })
    try {
      link.ask(text, {
        idText: '0',
        onNotification: () => undefined,
        onResponse: (answer) => settle(resolve, answer),
        onFailure: (reason) => settle(reject, reason),
      })
    } catch (thrown) {
      settle(reject, thrown)
    }
  })
}

/** The server, ready; null = it does not speak that era. Throws `upstream_failed`. */
export async function inEra(server: SharedServer): Promise<ReadyServer | null> {
  try {
    return await server.get()
  } catch (thrown) {
    if (thrown instanceof WrongEraError) return null
    throw thrown
  }
}

/** Refuses what a server asks of a client: nobody can say which of them is meant. */
export function refuseQuestion(link: Link, message: Unsolicited): void {
  if (message.kind !== 'request') return
  const error = '{"code":-32601,"message":"The clients of a shared server cannot be asked"}'
  try {
    link.tell(`{"jsonrpc":"2.0","id":${message.idText},"error":${error}}`)
  } catch {
    // It does not read: what waits for it has deadlines of its own.
  }
}
