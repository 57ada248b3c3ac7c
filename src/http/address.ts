/** Who is on the other end of the connection, when proxies stand in between. Pure. */
import { BlockList, isIP, isIPv4, isIPv6 } from 'node:net'

/** Finds the client's address, in canonical text: dotted IPv4 (also for IPv4-mapped IPv6), or RFC 5952 IPv6 without zone. */
export type ClientAddress = (peer: string, forwardedFor: string | null) => string

/** Most hops of `X-Forwarded-For` that are looked at, from the right. */
const MAX_HOPS = 32

/**
 * Makes a {@link ClientAddress}. `X-Forwarded-For` counts only when the peer itself is trusted, and then from the right:
 * the first address that no trusted proxy vouches for is the client. What stands left of it is the client's own claim.
 *
 * @param trustedProxies addresses and CIDR blocks
 * @throws RangeError when an entry is neither
 */
export function createClientAddress(trustedProxies: readonly string[]): ClientAddress {
  const trusted = new BlockList()
  for (const entry of trustedProxies) addTrusted(trusted, entry)
  const isTrusted = (address: string) => trusted.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')

  return function clientAddress(peer, forwardedFor) {
    let address = canonicalAddress(peer) ?? '0.0.0.0'
    if (forwardedFor === null || trustedProxies.length === 0) return address
    const hops = forwardedFor.split(',').slice(-MAX_HOPS)
    while (isTrusted(address)) {
      const hop = hops.pop()
      const previous = hop === undefined ? null : canonicalAddress(hop)
      // A hop that is no address was written by a proxy we trust: the proxy is the best we know.
      if (previous === null) break
      address = previous
    }
    return address
  }
}

/** The canonical text of an address, which may carry a port, brackets or a zone; null when it is none. */
export function canonicalAddress(text: string): string | null {
  const bare = withoutPort(text.trim()).replace(/%.*$/, '')
  if (isIPv4(bare)) return bare
  if (!isIPv6(bare)) return null
  const canonical = new URL(`http://[${bare}]`).hostname.slice(1, -1)
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical)
  if (mapped === null) return canonical
  const bits = Number.parseInt(mapped[1] ?? '', 16) * 0x10000 + Number.parseInt(mapped[2] ?? '', 16)
  return [24, 16, 8, 0].map((shift) => (bits / 2 ** shift) & 0xff).join('.')
}

function withoutPort(text: string): string {
  const bracketed = /^\[([^\]]*)\](?::\d+)?$/.exec(text)
  if (bracketed !== null) return bracketed[1] ?? ''
  return /^\d+\.\d+\.\d+\.\d+:\d+$/.test(text) ? text.slice(0, text.indexOf(':')) : text
}

function addTrusted(trusted: BlockList, entry: string): void {
  const [network = '', prefix, ...rest] = entry.trim().split('/')
  const family = isIP(network) === 6 ? 'ipv6' : 'ipv4'
  const width = family === 'ipv6' ? 128 : 32
  const bits = prefix === undefined ? width : Number(prefix)
  if (
    isIP(network) === 0 ||
    rest.length > 0 ||
    prefix === '' ||
    !Number.isInteger(bits) ||
    bits < 0 ||
    bits > width
  ) {
    throw new RangeError(
      `trusted_proxies: "${entry}" is neither an address nor a CIDR block such as 10.0.0.0/8`,
    )
  }
  trusted.addSubnet(network, bits, family)
}
