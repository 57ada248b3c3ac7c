/** Each upstream: does it answer, does it let us in, which tools does it offer. */
import type { Dispatcher } from 'undici'
import { DecoratorHandler } from 'undici'
import type { LoadedConfig } from '../config/load.ts'
import type { UpstreamConfig, UpstreamCredentialConfig } from '../config/types.ts'
import { toCatalogError } from '../upstream/catalog.ts'
import { listTools } from '../upstream/catalog-client.ts'
import { openConnections } from '../upstream/connections.ts'
import type { Credential } from '../upstream/credential.ts'
import { createCredential } from '../upstream/credential.ts'
import { parseStaticHeaders } from '../upstream/headers.ts'
import { createGuard } from '../upstream/stdio/guard.ts'
import { addressOf as addressOfStdio, openStdio, STDIO_TARGET } from '../upstream/stdio/settings.ts'
import type { ToolList } from '../upstream/tool-list.ts'
import { toToolList } from '../upstream/tool-list.ts'
import { VERSION } from '../version.ts'
import type { Finding, Trouble } from './finding.ts'
import { countText, toFinding } from './finding.ts'

/** Asked at the same time. */
const AT_ONCE = 8
const BOUNDS = {
  maxPages: 100,
  maxTools: 10_000,
  maxBytes: 16 * 1024 * 1024,
  maxPageBytes: 4 * 1024 * 1024,
  timeoutMs: 10_000,
}

/** Asks the upstreams that are wanted, all when `only` is null, as the gateway asks them. */
export async function checkUpstreams(
  loaded: LoadedConfig,
  only: string | null,
  onProgress: (text: string) => void,
): Promise<readonly Finding[]> {
  const names = Object.keys(loaded.config.upstreams).filter((name) => only === null || name === only)
  const findings = new Map<string, Finding>()
  const waiting = [...names]
  const work = async (): Promise<void> => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      onProgress(`asking upstream ${name}`)
      findings.set(name, await checkUpstream(loaded, name))
    }
  }
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, names.length) }, work))
  return names.flatMap((name) => findings.get(name) ?? [])
}

/** What one asking came to. */
interface Answer {
  readonly list: ToolList | null
  readonly protocolVersion: string | null
  /** In our own words; null when it was answered. */
  readonly error: string | null
  /** HTTP status of its last answer; null when there was none. */
  readonly status: number | null
  readonly ms: number
}

async function checkUpstream(loaded: LoadedConfig, name: string): Promise<Finding> {
  const upstream = loaded.config.upstreams[name]
  if (upstream === undefined) throw new Error(`no upstream is named ${name}`)
  const answer = await ask(name, upstream)
  const { list, protocolVersion } = answer
  const isGood = list !== null
  return toFinding({
    check: 'upstream',
    subject: name,
    title: `upstream ${name}`,
    facts: isGood
      ? [
          countText(list.tools.size, 'tool'),
          `MCP ${protocolVersion ?? 'unknown'}`,
          `${Math.round(answer.ms)} ms`,
        ]
      : [],
    troubles: isGood ? listTroubles(list) : [failure(loaded, name, upstream, answer)],
    details: [
      `${addressOf(upstream)} (${placeOf(loaded, name) ?? 'default'})`,
      ...(list === null ? [] : [...list.tools.keys()].map((tool) => `tool ${tool}`)),
      ...(list === null
        ? []
        : list.rejected.map(({ name: tool, reason }) => `not usable: ${tool} (${reason})`)),
    ],
  })
}

async function ask(name: string, upstream: UpstreamConfig): Promise<Answer> {
  const statuses: number[] = []
  const { url, dispatcher, close } = reach(name, upstream)
  const started = performance.now()
  // The statuses of a stdio server are the bridge's own.
  const status = (): number | null => (upstream.stdio === null ? (statuses.at(-1) ?? null) : null)
  const common = () => ({ status: status(), ms: performance.now() - started })
  try {
    const { tools, protocolVersion } = await listTools(
      {
        url,
        own: {
          configured: parseStaticHeaders(name, upstream.headers),
          userAgent: `mcp-policy-gateway/${VERSION}`,
        },
        version: VERSION,
        dispatcher: dispatcher.compose(
          (dispatch) => (options, handler) => dispatch(options, new StatusHandler(handler, statuses)),
        ),
        bounds: BOUNDS,
        onFault: () => undefined,
      },
      AbortSignal.timeout(BOUNDS.timeoutMs + 1000),
    )
    return { list: toToolList(tools), protocolVersion, error: null, ...common() }
  } catch (thrown) {
    const { detail, message } = toCatalogError(thrown)
    return { list: null, protocolVersion: null, error: detail ?? message, ...common() }
  } finally {
    await close()
  }
}

interface Reached {
  readonly url: URL
  readonly dispatcher: Dispatcher
  close(): Promise<void>
}

/** Connections to it; or the server itself, started for this one asking. */
function reach(name: string, upstream: UpstreamConfig): Reached {
  const { stdio, maxAnswerBytes, connectTimeoutMs } = upstream
  if (stdio === null) {
    const url = new URL(upstream.url ?? '')
    const credential =
      upstream.credential === null ? null : createOwnCredential(name, upstream.credential, url)
    const { tls } = upstream
    const bounds = { connectTimeoutMs, maxConnections: 2, clock: CLOCK }
    const connections = openConnections({ origin: url.origin, tls, credential, ...bounds })
    const close = async (): Promise<void> => {
      await connections.close()
      await credential?.close()
    }
    return { url, dispatcher: connections.dispatcher, close }
  }
  const guard = createGuard()
  const { transport } = openStdio({
    ...{ name, stdio, guard, version: VERSION, log: SILENT, random: Math.random },
    settings: { maxAnswerBytes },
    limits: { stopGraceMs: STOP_GRACE_MS },
    clock: CLOCK,
  })
  const close = async (): Promise<void> => {
    await transport.close()
    guard.close()
  }
  return { url: STDIO_TARGET.url, dispatcher: transport.own, close }
}

/** Asks for a token of its own: the one the gateway has is in the gateway's memory alone. */
function createOwnCredential(upstream: string, settings: UpstreamCredentialConfig, url: URL): Credential {
  const { timeoutMs } = BOUNDS
  const surroundings = { clock: CLOCK, random: Math.random, log: SILENT }
  return createCredential({ upstream, settings, url, timeoutMs, ...surroundings })
}

const CLOCK = { nowMs: Date.now, monotonicMs: () => performance.now() }
const STOP_GRACE_MS = 1000
const SILENT = { info: () => undefined, warn: () => undefined }

/** Notes the status of every answer: the client's own errors do not always say it. */
class StatusHandler extends DecoratorHandler {
  readonly #handler: Dispatcher.DispatchHandler
  readonly #statuses: number[]

  constructor(handler: Dispatcher.DispatchHandler, statuses: number[]) {
    super(handler)
    this.#handler = handler
    this.#statuses = statuses
  }

  onResponseStart(...args: Parameters<NonNullable<Dispatcher.DispatchHandler['onResponseStart']>>): void {
    this.#statuses.push(args[1])
    this.#handler.onResponseStart?.(...args)
  }
}

function listTroubles({ tools, rejected }: ToolList): Trouble[] {
  const troubles: Trouble[] = []
  if (tools.size === 0) {
    troubles.push({ state: 'warn', text: 'it offers no tools', fix: 'Check its address and its credential' })
  }
  if (rejected.length > 0) {
    const fix = 'Tell those who run it; -v shows which and why'
    troubles.push({ state: 'warn', text: `${countText(rejected.length, 'tool')} cannot be used`, fix })
  }
  return troubles
}

/** Why it did not work, and the line of the configuration where that is mended. */
function failure(loaded: LoadedConfig, name: string, upstream: UpstreamConfig, answer: Answer): Trouble {
  const address = addressOf(upstream)
  if (answer.status === 401 || answer.status === 403) {
    return { state: 'fail', text: `${answer.status} from ${address}`, fix: credentialFix(loaded, name) }
  }
  const at = placeOf(loaded, name)
  const fix = `Check upstreams.${name}.${upstream.stdio === null ? 'url' : 'command'}${at === undefined ? '' : ` (${at})`}`
  return { state: 'fail', text: whyText(address, answer), fix }
}

function whyText(address: string, { status, error }: Answer): string {
  if (status !== null && status >= 300) return `${status} from ${address}`
  const [, code] = /^([A-Z_]{3,64})\b/.exec(error ?? '') ?? []
  if (status === null && code !== undefined) return `no connection to ${address} (${code})`
  return `${address}: ${error ?? 'no answer'}`
}

const CREDENTIAL = /authorization|cookie|token|secret|key|credential/i

/** Names the variable that holds the credential, never its value. */
function credentialFix({ config, origins, templates }: LoadedConfig, name: string): string {
  const own = originBelow(origins, `upstreams.${name}.credential.`)
  if (config.upstreams[name]?.credential != null)
    return `Check upstreams.${name}.credential${own === undefined ? '' : ` (${own})`}`
  const headers = Object.keys(config.upstreams[name]?.headers ?? {})
  const prefix = `upstreams.${name}.headers.`
  // Names are kept as written there, and in lower case here.
  const path = [...origins.keys()].find(
    (setting) => setting.startsWith(prefix) && CREDENTIAL.test(setting.slice(prefix.length)),
  )
  if (headers.length === 0 || path === undefined) {
    const at = placeOf({ config, origins }, name)
    return `Give it a credential: upstreams.${name}.headers${at === undefined ? '' : ` (${at})`}`
  }
  const variables = [...(templates.get(path) ?? '').matchAll(/\$\{([A-Za-z_][A-Za-z0-9_]*)/g)].map(
    ([, one]) => one,
  )
  const what = variables.length === 0 ? path : variables.join(', ')
  return `Set ${what} to a credential that it accepts (${origins.get(path) ?? path})`
}

/** Where the first setting below a path stands. */
function originBelow(origins: LoadedConfig['origins'], prefix: string): string | undefined {
  return [...origins].find(([setting]) => setting.startsWith(prefix))?.[1]
}

/** Without query, which may hold a secret. */
function addressOf(upstream: UpstreamConfig): string {
  if (upstream.stdio !== null) return addressOfStdio(upstream.stdio)
  const { origin, pathname } = new URL(upstream.url ?? '')
  return `${origin}${pathname}`
}

/** Where it is configured how to reach it. */
function placeOf(
  { config, origins }: Pick<LoadedConfig, 'config' | 'origins'>,
  name: string,
): string | undefined {
  return origins.get(`upstreams.${name}.${config.upstreams[name]?.stdio == null ? 'url' : 'command'}`)
}
