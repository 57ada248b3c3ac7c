/** URI references as Go's `url.Parse` takes them apart. */
import { BuiltinLimitError } from './budget.ts'
import { toBytes, toText } from './bytes.ts'
import { isIpv6Literal } from './net.ts'

/** The parts that are present; `raw_path` is the path as written where its default escaping would differ. */
export interface UriParts {
  scheme?: string
  hostname?: string
  port?: string
  path?: string
  raw_path?: string
  raw_query?: string
  fragment?: string
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const CONTROL = /[\u0000-\u001f\u007f]/
/** ASCII that a host may hold unescaped. */
const HOST_ASCII = /^[A-Za-z0-9!"$&'()*+,\-.:;<=>[\]_~]*$/
const USER_INFO = /^[A-Za-z0-9\-._:~!$&'()*+,;=%@]*$/
const BAD_ESCAPE = /%(?![0-9a-fA-F]{2})/
/** ASCII that Go leaves alone when it escapes a path. */
const PATH_ASCII = /[A-Za-z0-9$&+,\-./:;=@_~]/

/** Splits at the first `separator`; the second part is empty when there is none. */
function cut(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator)
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + separator.length)]
}

/** Whether Go takes the text as a URI reference; escaped bytes need not be UTF-8. */
export function isUri(text: string): boolean {
  try {
    return parseUri(text) !== undefined
  } catch (thrown) {
    if (thrown instanceof BuiltinLimitError && thrown.limit === 'binary_text') return true
    throw thrown
  }
}

/** The parts of a URI reference, or undefined when Go refuses it. May throw a `binary_text` limit. */
export function parseUri(text: string): UriParts | undefined {
  const [beforeFragment, fragment] = cut(text, '#')
  if (CONTROL.test(beforeFragment) || BAD_ESCAPE.test(fragment)) return undefined
  const parts = parseWithoutFragment(beforeFragment)
  if (parts === undefined || fragment === '') return parts
  return { ...parts, fragment: unescapePercent(fragment) }
}

function parseWithoutFragment(text: string): UriParts | undefined {
  if (text === '*') return { path: '*', raw_path: '*' }
  if (text.startsWith(':')) return undefined
  const match = /^(?:([A-Za-z][A-Za-z0-9+.-]*):)?(.*)$/s.exec(text)
  const scheme = match?.[1]?.toLowerCase() ?? ''
  const [rest, query] = cut(match?.[2] ?? '', '?')
  const found: UriParts = { ...(scheme !== '' && { scheme }), ...(query !== '' && { raw_query: query }) }
  return scheme === '' ? parseRelative(found, rest) : parseAbsolute(found, scheme, rest)
}

function parseRelative(found: UriParts, rest: string): UriParts | undefined {
  if (rest.startsWith('//') && !rest.startsWith('///')) return withAuthority(found, '', rest)
  // A colon in the first segment would have been a scheme.
  return !rest.startsWith('/') && cut(rest, '/')[0].includes(':') ? undefined : withPath(found, rest)
}

function parseAbsolute(found: UriParts, scheme: string, rest: string): UriParts | undefined {
  if (rest.startsWith('//')) return withAuthority(found, scheme, rest)
  // What follows the scheme without a slash is opaque.
  return rest.startsWith('/') ? withPath(found, rest) : found
}

function withAuthority(found: UriParts, scheme: string, rest: string): UriParts | undefined {
  const slash = rest.indexOf('/', 2)
  const authority = parseAuthority(scheme, slash < 0 ? rest.slice(2) : rest.slice(2, slash))
  if (authority === undefined) return undefined
  return withPath({ ...found, ...authority }, slash < 0 ? '' : rest.slice(slash))
}

function withPath(found: UriParts, path: string): UriParts | undefined {
  if (BAD_ESCAPE.test(path)) return undefined
  if (path === '') return found
  const unescaped = unescapePercent(path)
  return { ...found, path: unescaped, raw_path: escapePath(unescaped) === path ? unescaped : path }
}

function escapePath(path: string): string {
  const escapeByte = (byte: number): string => {
    const character = String.fromCharCode(byte)
    return PATH_ASCII.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }
  return Array.from(toBytes(path), escapeByte).join('')
}

function unescapePercent(text: string): string {
  if (!text.includes('%')) return text
  const latin1 = toBytes(text)
    .toString('latin1')
    .replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
  return toText(Buffer.from(latin1, 'latin1'))
}

function parseAuthority(scheme: string, authority: string): UriParts | undefined {
  const at = authority.lastIndexOf('@')
  const userInfo = at < 0 ? '' : authority.slice(0, at)
  if (!USER_INFO.test(userInfo) || BAD_ESCAPE.test(userInfo)) return undefined
  const host = parseHost(scheme, authority.slice(at + 1))
  if (host === undefined) return undefined
  const colon = host.lastIndexOf(':')
  const hasPort = colon >= 0 && /^:\d*$/.test(host.slice(colon))
  const bare = hasPort ? host.slice(0, colon) : host
  const hostname = bare.startsWith('[') && bare.endsWith(']') ? bare.slice(1, -1) : bare
  const parts: UriParts = {}
  if (hostname !== '') parts.hostname = hostname
  if (hasPort && colon + 1 < host.length) parts.port = host.slice(colon + 1)
  return parts
}

function parseHost(scheme: string, host: string): string | undefined {
  const bracket = host.lastIndexOf('[')
  if (bracket > 0) return undefined
  if (bracket === 0) return parseBracketed(host)
  const first = host.indexOf(':')
  if (first >= 0) {
    // Only http and https insist on a single colon.
    const colon = scheme === 'http' || scheme === 'https' ? first : host.lastIndexOf(':')
    if (!/^:\d*$/.test(host.slice(colon))) return undefined
  }
  return unescapeHost(host)
}

function parseBracketed(host: string): string | undefined {
  const close = host.lastIndexOf(']')
  if (close < 0 || !/^(?::\d*)?$/.test(host.slice(close + 1))) return undefined
  const [address, zone] = cut(host.slice(1, close), '%25')
  const hasZone = host.includes('%25')
  const plain = unescapeHost(address)
  if (plain === undefined || !isIpv6Literal(plain)) return undefined
  const plainZone = hasZone ? unescapeZone(zone) : ''
  if (plainZone === undefined || (hasZone && plainZone === '')) return undefined
  return `[${plain}${hasZone ? '%' : ''}${plainZone}]${host.slice(close + 1)}`
}

/** In a host only non-ASCII bytes (and `%` itself) may be escaped. */
function unescapeHost(host: string): string | undefined {
  if (BAD_ESCAPE.test(host) || /%(?!25)[0-7]/.test(host)) return undefined
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the ASCII range
  const ascii = host.replace(/%[0-9a-fA-F]{2}/g, '').replace(/[^\u0000-\u007f]/g, '')
  return HOST_ASCII.test(ascii) ? unescapePercent(host) : undefined
}

/** A zone may also escape what it could hold as it is, and spaces. */
function unescapeZone(zone: string): string | undefined {
  if (BAD_ESCAPE.test(zone)) return undefined
  for (const [, hex = ''] of zone.matchAll(/%([0-9a-fA-F]{2})/g)) {
    const character = String.fromCharCode(Number.parseInt(hex, 16))
    if (!/[ %]/.test(character) && !HOST_ASCII.test(character)) return undefined
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the ASCII range
  const ascii = zone.replace(/%[0-9a-fA-F]{2}/g, '').replace(/[^\u0000-\u007f]/g, '')
  return HOST_ASCII.test(ascii) ? unescapePercent(zone) : undefined
}
