/**
 * Whether the gateway on this machine lives: exit code 0 or 1. For the health checks of containers, which have no curl. The
 * admin listener's port is taken from GATEWAY_ADMIN_LISTEN, 8081 without it.
 */
const port = /:(\d+)$/.exec(process.env.GATEWAY_ADMIN_LISTEN ?? '')?.[1] ?? '8081'
const isAlive = await fetch(`http://127.0.0.1:${port}/livez`, { signal: AbortSignal.timeout(3000) }).then(
  (response) => response.ok,
  () => false,
)
process.exitCode = isAlive ? 0 : 1
