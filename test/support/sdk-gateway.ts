/** A gateway for tests of clients: servers on both of the official SDKs behind it, and one policy. */
import type { TestGateway } from './gateway.ts'
import { startTestGateway } from './gateway.ts'
import type { SdkUpstream, SessionUpstream } from './sdk-upstreams.ts'
import { startV1Upstream, startV2Upstream } from './sdk-upstreams.ts'

/** What one may do there: all but `destroy`, and `fail` once an hour. */
export const SDK_GATEWAY_POLICY = `package gateway.authz

allow contains "all-but-destroy" if count(input.principal.roles) > 0

deny contains "no-destruction" if input.target.name == "destroy"

limits contains {"name": "few-fails", "key": [input.principal.id], "limit": 1, "window_s": 3600} if {
	input.target.name == "fail"
}
`

/** A gateway with the mounts `sessions` (SDK v1) and `both` (SDK v2, sessions and 2026-07-28). */
export interface SdkGateway {
  readonly gateway: TestGateway
  readonly upstreams: { readonly sessions: SessionUpstream; readonly both: SdkUpstream }
  /** Ends the gateway, then the servers. */
  close(): Promise<void>
}

/** Starts it; `rules` are more Rego for its policy. */
export async function startSdkGateway(rules = ''): Promise<SdkGateway> {
  const upstreams = { sessions: await startV1Upstream(), both: await startV2Upstream() }
  const gateway = await startTestGateway({
    policies: { 'authz/rules.rego': `${SDK_GATEWAY_POLICY}${rules}` },
    upstreams: { sessions: upstreams.sessions.url, both: upstreams.both.url },
  })
  return {
    ...{ gateway, upstreams },
    async close() {
      await gateway.close()
      for (const upstream of Object.values(upstreams)) await upstream.close()
    },
  }
}
