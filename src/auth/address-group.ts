import { isIPv4, isIPv6 } from 'node:net'

/**
 * The sender an address stands for when failures are counted: an IPv4 address itself, an IPv6 address its /64 (what one
 * customer or one machine commonly gets), an IPv4-mapped one its IPv4 address. Anything else is cut to 64 characters.
 */
export function addressGroup(address: string): string {
  const plain = address.split('%', 1)[0] ?? ''
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(plain)?.[1]
  if (mapped !== undefined && isIPv4(mapped)) return mapped
  if (!isIPv6(plain)) return plain.slice(0, 64)
  return `${firstFourGroups(plain).join(':')}::/64`
}

function firstFourGroups(address: string): string[] {
  const [before = '', after = ''] = address.toLowerCase().split('::', 2)
  const head = groups(before)
  const tail = groups(after)
  const zeros = Array.from({ length: Math.max(0, 8 - head.length - tail.length) }, () => '0')
  return [...head, ...zeros, ...tail].slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16))
}

/** A dotted IPv4 tail stands for two groups; it never reaches the first four. */
function groups(part: string): string[] {
  return part === '' ? [] : part.split(':').flatMap((group) => (group.includes('.') ? ['0', '0'] : [group]))
}
