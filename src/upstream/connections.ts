/** The connections to one upstream: how they are secured, and what the gateway shows on them. */
import { createSecureContext } from 'node:tls'
import type { Dispatcher } from 'undici'
import { buildConnector, Pool } from 'undici'
import type { Credential } from './credential.ts'
import { withCredential } from './credential.ts'
import { createFreshFiles } from './fresh-files.ts'
import { failed } from './head-plan.ts'

/** Absolute paths of PEM files. */
export interface TlsFiles {
  /** Who may vouch for the upstream, instead of the authorities that Node knows; null = those. */
  readonly caFile: string | null
  /** The gateway's own certificate and its key; null = the upstream asks for none. */
  readonly client: { readonly certFile: string; readonly keyFile: string } | null
}

/** What connections to one upstream are made with. */
export interface ConnectionOptions {
  /** Scheme, host and port. */
  readonly origin: string
  readonly maxConnections: number
  readonly connectTimeoutMs: number
  /** null = the authorities that Node knows, and no certificate. */
  readonly tls: TlsFiles | null
  /** null = none but what the configured headers hold. */
  readonly credential: Credential | null
  readonly clock: { monotonicMs(): number }
}

/** Connections to one upstream. */
export interface Connections {
  readonly dispatcher: Dispatcher
  /** Ends all of them at once. The credential stays open: others may use it. */
  close(): Promise<void>
}

/** An idle connection is given up before servers' usual 5 s, so that a POST does not meet a closing one. */
const KEEP_ALIVE_MS = 4000

/** Connects to nothing yet. */
export function openConnections(options: ConnectionOptions): Connections {
  const { origin, tls, credential, clock, connectTimeoutMs: timeout } = options
  const pool = new Pool(origin, {
    connections: options.maxConnections,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_MS,
    // The deadlines are ours (see `exchange.ts`): undici's would end silent streams.
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: tls === null ? { timeout, ...VERIFIED } : createTlsConnector(tls, timeout, clock),
  })
  return {
    dispatcher: credential === null ? pool : withCredential(pool, credential),
    close: () => pool.destroy(),
  }
}

/** Whatever the environment says about unverified peers. */
const VERIFIED = { rejectUnauthorized: true }

/** PEM texts under Node's names of them. */
interface Material {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
}

/**
 * A new connection is made with what the files hold then; an open one stays as it is. Certificate and key are two files: while
 * only one of them has been replaced, the last pair that belonged together is used.
 */
function createTlsConnector(
  { caFile: ca, client }: TlsFiles,
  timeout: number,
  clock: { monotonicMs(): number },
): buildConnector.connector {
  const named = Object.entries({ ca, cert: client?.certFile, key: client?.keyFile }).flatMap(
    ([name, path]) => (typeof path === 'string' ? [{ name, path }] : []),
  )
  const paths = named.map(({ path }) => path)
  const files = createFreshFiles(paths, clock)
  let last: { readonly texts: string; readonly connect: buildConnector.connector } | null = null

  async function current(): Promise<buildConnector.connector> {
    const read = await files.read()
    const texts = read.join('\n')
    if (texts === last?.texts) return last.connect
    const material: Material = Object.fromEntries(named.map(({ name }, index) => [name, read[index]]))
    const problem = problemOf(material)
    if (problem === null) last = { texts, connect: buildConnector({ ...material, timeout, ...VERIFIED }) }
    if (last === null) throw failed(`its certificates cannot be used (${problem}): ${paths.join(', ')}`)
    return last.connect
  }

  return (options, callback) => {
    current()
      .then((connect) => connect(options, callback))
      .catch((thrown: Error) => callback(thrown, null))
  }
}

function problemOf(material: Material): string | null {
  try {
    createSecureContext(material)
    return null
  } catch (thrown) {
    return thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'not PEM'
  }
}
