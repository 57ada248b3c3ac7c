/**
 * The allow-lists against DNS rebinding and cross-site requests (MCP `basic/transports`, security warning): which
 * `Host` we answer to, and which `Origin` may call us. An empty list allows nothing.
 */

/** Whether a header value is on the list. */
export type AllowList = (value: string) => boolean

const NAME = String.raw`(?:\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?)`
const HOST = new RegExp(`^(${NAME})\\.?(?::(\\d{1,5}))?$`)
const HOST_ENTRY = new RegExp(`^(${NAME})(?::(\\d{1,5}|\\*))?$`)
const ORIGIN = new RegExp(`^([a-z][a-z0-9+.-]*)://(${NAME})(?::(\\d{1,5}))?$`)
const ORIGIN_ENTRY = new RegExp(`^([a-z][a-z0-9+.-]*)://(${NAME})(?::(\\d{1,5}|\\*))?$`)

/**
 * Host names: `mcp.example.com` (any port), `127.0.0.1:8080` (that port only), `[::1]`.
 * @throws RangeError when an entry is no host name
 */
export function createHostList(entries: readonly string[]): AllowList {
  const allowed = new Set<string>()
  for (const entry of entries) {
    const [, name, port = '*'] = HOST_ENTRY.exec(entry.toLowerCase()) ?? []
    if (name === undefined)
      throw new RangeError(`allowed_hosts: "${entry}" is not a host name with an optional port`)
    allowed.add(`${name}:${port}`)
  }
  return function isAllowedHost(value) {
    const [, name, port = ''] = HOST.exec(value.toLowerCase()) ?? []
    return name !== undefined && (allowed.has(`${name}:*`) || (port !== '' && allowed.has(`${name}:${port}`)))
  }
}

/**
 * Origins: `https://app.example.com` (its default port), `http://localhost:5173`, `http://localhost:*` (any port).
 * The origin `null` is never allowed.
 * @throws RangeError when an entry is no origin
 */
export function createOriginList(entries: readonly string[]): AllowList {
  const allowed = new Set<string>()
  for (const entry of entries) {
    const [, scheme, name, port] = ORIGIN_ENTRY.exec(entry.toLowerCase()) ?? []
    if (scheme === undefined || name === undefined) {
      throw new RangeError(`allowed_origins: "${entry}" is not an origin such as https://app.example.com`)
    }
    allowed.add(`${scheme}://${name}:${port ?? defaultPort(scheme)}`)
  }
  return function isAllowedOrigin(value) {
    const [, scheme, name, port] = ORIGIN.exec(value.toLowerCase()) ?? []
    if (scheme === undefined || name === undefined) return false
    const origin = `${scheme}://${name}`
    return allowed.has(`${origin}:*`) || allowed.has(`${origin}:${port ?? defaultPort(scheme)}`)
  }
}

function defaultPort(scheme: string): string {
  return scheme === 'https' ? '443' : scheme === 'http' ? '80' : ''
}
