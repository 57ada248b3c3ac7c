/** The two addresses of the gateway: free, or taken by the gateway itself. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { Agent, request } from 'undici'
import { isWildcard, listenText } from '../config/listen.ts'
import type { LoadedConfig } from '../config/load.ts'
import type { Listen } from '../config/types.ts'
import type { Finding, Trouble } from './finding.ts'
import { toFinding } from './finding.ts'

const ASK_MS = 3000
const MAX_BYTES = 65_536

/** What was found, and which policy the gateway serves that runs here (null = none runs, or it does not say). */
export interface ListenerFindings {
  readonly findings: readonly Finding[]
  readonly servingRevision: string | null
}

/** Looks who listens on the configured addresses. */
export async function checkListeners({ config, origins }: LoadedConfig): Promise<ListenerFindings> {
  const { listen, admin, tls } = config
  const place = (setting: string): string => {
    const at = origins.get(setting)
    return at === undefined ? setting : `${setting} (${at})`
  }
  const front = await checkAddress('listen', listen, place('listen'), () =>
    isFrontDoor(tls === null ? 'http' : 'https', listen),
  )
  const first = toFinding({ check: 'listen', subject: 'front', ...front })
  if (admin.listen === null) return { findings: [first], servingRevision: null }
  const address = admin.listen
  let readiness: Readiness | null = null
  const second = await checkAddress('admin', address, place('admin.listen'), async () => {
    if (!(await isAdmin(address))) return false
    readiness = await readReadiness(address)
    return true
  })
  return toFindings(first, second, readiness)
}

interface Place {
  readonly title: string
  readonly facts: readonly string[]
  readonly troubles: readonly Trouble[]
}

function toFindings(front: Finding, admin: Place, readiness: Readiness | null): ListenerFindings {
  const failed = readiness?.failed ?? []
  const fix = 'gateway doctor shows what is wrong; the log of the gateway says since when'
  const isReady = readiness === null || readiness.status === 'ready'
  const notReady: Trouble[] = isReady
    ? []
    : [
        {
          state: 'fail',
          text: `${readiness.status.replace('_', ' ')}: ${failed.join(', ') || 'draining'}`,
          fix,
        },
      ]
  const second = toFinding({
    check: 'listen',
    subject: 'admin',
    title: admin.title,
    facts: [...admin.facts, ...(readiness !== null && isReady ? ['ready'] : [])],
    troubles: [...admin.troubles, ...notReady],
    details: readiness === null ? [] : readiness.checks,
  })
  return { findings: [front, second], servingRevision: readiness?.revision ?? null }
}

async function checkAddress(
  name: string,
  listen: Listen,
  setting: string,
  isOurs: () => Promise<boolean>,
): Promise<Place> {
  const title = `${name} ${listenText(listen)}`
  if (listen.port === 0) return { title, facts: ['any free port'], troubles: [] }
  if (await isOurs()) return { title, facts: ['the gateway listens'], troubles: [] }
  const code = await tryToBind(listen)
  if (code === null) return { title, facts: ['free'], troubles: [] }
  const [text, fix] = BIND_TROUBLES[code] ?? [`cannot be used (${code})`, 'Choose another']
  return { title, facts: [], troubles: [{ state: 'fail', text, fix: `${fix}: ${setting}` }] }
}

const BIND_TROUBLES: Readonly<Record<string, readonly [text: string, fix: string]>> = {
  EADDRINUSE: ['another program listens there', 'End it, or choose another port'],
  EACCES: ['this user may not use that port', 'Choose one above 1023'],
  EADDRNOTAVAIL: ['this machine has no such address', 'Correct it'],
  ENOTFOUND: ['the host name is unknown', 'Correct it'],
}

/** null when it can be bound; else the system's code. */
async function tryToBind({ host, port }: Listen): Promise<string | null> {
  const server = createServer()
  try {
    server.listen({ host, port, exclusive: true })
    await once(server, 'listening')
    return null
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
  } finally {
    server.close()
  }
}

/** Outside of its mounts the front door answers in a way of its own, and records nothing. */
async function isFrontDoor(scheme: 'http' | 'https', listen: Listen): Promise<boolean> {
  const answer = await get(`${scheme}://${reachable(listen)}/`)
  const json = answer === null ? null : asObject(answer.text)
  return answer?.status === 404 && json?.['code'] === 1404 && answer.requestId !== null
}

async function isAdmin(listen: Listen): Promise<boolean> {
  const answer = await get(`http://${reachable(listen)}/livez`)
  return answer?.status === 200 && asObject(answer.text)?.['status'] === 'live'
}

interface Readiness {
  readonly status: string
  readonly revision: string | null
  /** Names of the required checks that fail. */
  readonly failed: readonly string[]
  readonly checks: readonly string[]
}

async function readReadiness(listen: Listen): Promise<Readiness | null> {
  const answer = await get(`http://${reachable(listen)}/readyz`)
  const json = answer === null ? null : asObject(answer.text)
  const status = json?.['status']
  if (json === null || typeof status !== 'string') return null
  const checks = Object.entries(toObject(json['checks']) ?? {}).map(
    ([name, value]) => [name, toObject(value)] as const,
  )
  const revision = checks.find(([name]) => name === 'policy')?.[1]?.['revision']
  return {
    status,
    revision: typeof revision === 'string' ? revision : null,
    failed: checks
      .filter(([, check]) => check?.['state'] === 'failed' && check['required'] === true)
      .map(([name]) => name),
    checks: checks.map(([name, check]) => `${name}: ${String(check?.['state'])}`),
  }
}

interface Reply {
  readonly status: number
  readonly requestId: string | null
  readonly text: string
}

/** Asks this machine's own listener who it is; sends nothing. null when nobody answers in HTTP. */
async function get(url: string): Promise<Reply | null> {
  // The certificate is for the public name, and who answers is all we want to know.
  const agent = new Agent({ connect: { timeout: ASK_MS, rejectUnauthorized: false } })
  try {
    const { statusCode, headers, body } = await request(url, {
      dispatcher: agent,
      signal: AbortSignal.timeout(ASK_MS),
    })
    const requestId = headers['x-request-id']
    return {
      status: statusCode,
      requestId: typeof requestId === 'string' ? requestId : null,
      text: await readBounded(body),
    }
  } catch {
    return null
  } finally {
    await agent.destroy()
  }
}

async function readBounded(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of body) {
    length += chunk.length
    if (length > MAX_BYTES) return ''
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** An address that one can connect to. */
function reachable({ host, port }: Listen): string {
  if (!isWildcard(host)) return listenText({ host, port })
  return listenText({ host: host.includes(':') ? '::1' : '127.0.0.1', port })
}

function asObject(text: string): Readonly<Record<string, unknown>> | null {
  try {
    return toObject(JSON.parse(text))
  } catch {
    return null
  }
}

function toObject(value: unknown): Readonly<Record<string, unknown>> | null {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null
}
