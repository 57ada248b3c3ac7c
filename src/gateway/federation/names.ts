/**
 * How the merged mount names what belongs to one upstream. Stable, and to be read in one way only: names of upstreams are
 * lower-case letters, digits and single dashes (schemas/config.schema.json), so they hold neither separator.
 *
 * - tools, prompts, tasks   `<upstream>__<name>`
 * - resources, templates    `mcp+<upstream>+<uri>`: the original URI behind a longer scheme
 * - ids and tokens that an upstream made up   `<upstream>__<exact JSON text>`
 */

/** Mount and server name of the merged mount in the gateway's own words; no upstream can be called so. */
export const MERGED = '*'

/** What stands before a name. */
export function namePrefix(upstream: string): string {
  return `${upstream}__`
}

/** What stands before a URI. */
export function uriPrefix(upstream: string): string {
  return `mcp+${upstream}+`
}

/** Whose it is, and what the upstream calls it. */
export interface Owned {
  readonly upstream: string
  readonly bare: string
}

/** null when it is no name of the merged mount. */
export function splitName(name: unknown): Owned | null {
  return typeof name === 'string' ? owned(/^([a-z0-9-]{1,63})__(.+)$/s.exec(name)) : null
}

/** null when it is no URI of the merged mount. */
export function splitUri(uri: unknown): Owned | null {
  return typeof uri === 'string' ? owned(/^mcp\+([a-z0-9-]{1,63})\+(.+)$/s.exec(uri)) : null
}

/** An id or token whose `bare` is JSON text of a string or integer; null when it is none of the merged mount. */
export function splitToken(token: unknown): Owned | null {
  const found = splitName(token)
  return found !== null && isIdText(found.bare) ? found : null
}

function owned(match: RegExpExecArray | null): Owned | null {
  const [, upstream, bare] = match ?? []
  return upstream === undefined || bare === undefined ? null : { upstream, bare }
}

/** No white space around it: it is compared as text. */
function isIdText(text: string): boolean {
  if (!/^(?:-?\d+|".*")$/s.test(text)) return false
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/**
 * The value of an `Mcp-Name` header; `=?base64?..?=` carries what a header cannot (2026-07-28
 * `basic/transports/streamable-http`).
 */
export function nameHeader(name: string): string {
  const isPlain = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(name) && !name.startsWith('=?base64?')
  return isPlain ? name : `=?base64?${Buffer.from(name).toString('base64')}?=`
}

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The text of an `Mcp-Name` or `Mcp-Param-*` header; null when its base64 form is not canonical, or not UTF-8. */
export function decodeNameHeader(value: string): string | null {
  if (!value.startsWith('=?base64?') || !value.endsWith('?=') || value.length < 11) return value
  const encoded = value.slice(9, -2)
  if (!BASE64.test(encoded)) return null
  const bytes = Buffer.from(encoded, 'base64')
  if (bytes.toString('base64') !== encoded) return null
  try {
    return UTF8.decode(bytes)
  } catch {
    return null
  }
}
