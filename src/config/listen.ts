import { isIP, isIPv6 } from 'node:net'
import type { Listen } from './types.ts'

/** Parses `address:port`, `[v6]:port` or `localhost:port`; null when it is neither. */
export function parseListen(text: string): Listen | null {
  const match = /^(?:\[([^\]]+)\]|([^:[\]\s/]+)):(\d{1,5})$/.exec(text)
  if (match === null) return null
  const [, bracketed, plain, digits] = match
  const port = Number(digits)
  if (port > 65_535) return null
  if (bracketed !== undefined) return isIPv6(bracketed) ? { host: bracketed, port } : null
  const host = plain ?? ''
  const isName = /^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(host) && !/^[\d.]+$/.test(host)
  return isIP(host) !== 0 || isName ? { host, port } : null
}

/** `host:port` as it stands in a URL. */
export function listenText({ host, port }: Listen): string {
  return `${isIPv6(host) ? `[${host}]` : host}:${port}`
}

/** Only this machine can reach it. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

/** All interfaces. */
export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || (isIPv6(host) && /^[0:]+$/.test(host)) || host === '::ffff:0.0.0.0'
}
