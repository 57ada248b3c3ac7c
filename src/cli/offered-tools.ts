/** What the configured upstreams offer, to compare policies with. */
import type { Config } from '../config/types.ts'
import { GatewayError } from '../errors.ts'
import type { OfferedTools } from '../policy/lint/offered-tools.ts'
import type { Output } from './output.ts'
import { escapeText } from './text.ts'
import { openUpstreams } from './tools.ts'

/** A check is not kept waiting by an upstream that does not answer. */
const PATIENCE_MS = 5000

/**
 * Asks all upstreams at once; those that cannot be asked are told on stderr. Never fails for them.
 * @param patienceMs how long each has for its answer
 */
export async function readOfferedTools(
  out: Output,
  config: Config,
  patienceMs = PATIENCE_MS,
): Promise<OfferedTools> {
  const servers = Object.keys(config.upstreams)
  const upstreams = openUpstreams(config, servers)
  try {
    const lists = await out.progress('asking the upstreams for their tools', () =>
      Promise.all(servers.map((server) => within(patienceMs, server, ask(server)))),
    )
    for (const { server, failure } of lists) {
      if (failure !== null)
        out.note(`${server} could not be asked, so its tools were not compared: ${escapeText(failure)}`)
    }
    return new Map(lists.map(({ server, names }) => [server, names]))
  } finally {
    await upstreams.close()
  }

  async function ask(server: string): Promise<Asked> {
    try {
      const { tools, rejected } = await upstreams.tools(server)
      // One that the gateway cannot use is offered nevertheless.
      const names = new Set([...tools, ...rejected].map(({ name }) => name))
      return { server, names, failure: null }
    } catch (thrown) {
      if (!(thrown instanceof GatewayError)) throw thrown
      return { server, names: null, failure: thrown.detail ?? thrown.message }
    }
  }
}

interface Asked {
  readonly server: string
  /** null = it could not be asked. */
  readonly names: ReadonlySet<string> | null
  readonly failure: string | null
}

/** The answer, or that there was none in time. */
function within(patienceMs: number, server: string, asked: Promise<Asked>): Promise<Asked> {
  return new Promise((resolve, reject) => {
    const failure = `no answer within ${patienceMs} ms`
    const timer = setTimeout(() => resolve({ server, names: null, failure }), patienceMs)
    void asked.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}
