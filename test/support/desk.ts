/** A gateway in front of one scripted upstream with sessions, which is called `desk`. */
import type { TestGateway, TestGatewayOptions } from './gateway.ts'
import { startTestGateway } from './gateway.ts'
import type { ScriptedUpstream } from './upstreams.ts'
import { startScriptedUpstream } from './upstreams.ts'

/** What a suite works with. */
export interface Desk {
  readonly upstream: ScriptedUpstream
  readonly gateway: TestGateway
  /** Of a developer. */
  readonly key: string
  /** The upstream's own mount. */
  readonly mcp: string
  close(): Promise<void>
}

/** Starts both. `upstreams` are further ones. */
export async function openDesk(options: Partial<TestGatewayOptions> = {}): Promise<Desk> {
  const upstream = await startScriptedUpstream({ sessions: true })
  try {
    const upstreams = { ...options.upstreams, desk: upstream.url }
    const gateway = await startTestGateway({ ...options, upstreams })
    return {
      upstream,
      gateway,
      key: await gateway.key(),
      mcp: `${gateway.url}/mcp/desk`,
      async close() {
        await gateway.close()
        await upstream.close()
      },
    }
  } catch (error) {
    await upstream.close()
    throw error
  }
}
