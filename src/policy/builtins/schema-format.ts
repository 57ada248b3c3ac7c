/** The `format` keyword of JSON Schema as OPA checks it; unknown formats always hold. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, spend } from './budget.ts'
import { isAddress } from './net.ts'
import { compilePattern } from './pattern.ts'
import { parseTime } from './time-parser.ts'
import { isUri } from './uri.ts'

const NS_PER_CHAR = 100

type FormatCheck = (text: string, context: BuiltinContext) => boolean

function holds(check: () => unknown): boolean {
  try {
    check()
    return true
  } catch (thrown) {
    if (thrown instanceof BuiltinError) return false
    throw thrown
  }
}

function isTime(...layouts: readonly string[]): FormatCheck {
  return (text) => layouts.some((layout) => holds(() => parseTime(layout, text)))
}

function isUriReference(text: string): boolean {
  return !text.includes('\\') && isUri(text)
}

function isAbsoluteUri(text: string): boolean {
  return isUriReference(text) && /^[A-Za-z][A-Za-z0-9+.-]*:/.test(text)
}

function isUriTemplate(text: string): boolean {
  if (!isUriReference(text)) return false
  // Every opening brace needs a closing one behind it.
  const path = text.split(/[?#]/, 1)[0] ?? ''
  for (let open = path.indexOf('{'); open >= 0; ) {
    const close = path.indexOf('}', open)
    if (close < 0) return false
    open = path.indexOf('{', close)
  }
  return true
}

const HOST_LABEL = /^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$/

function isHostname(text: string): boolean {
  return text.length < 256 && text.split('.').every((label) => HOST_LABEL.test(label))
}

/** Characters of an atom (RFC 5322), and everything beyond ASCII (RFC 6532). */
const ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\u0080-\\u{10ffff}-]+"
const DOT_ATOM = `${ATOM}(?:\\.${ATOM})*`
const QUOTED = '"(?:[^"\\\\\\u0000-\\u001f]|\\\\[ -~])*"'
const ADDRESS = `(?:${DOT_ATOM}|${QUOTED})@(?:${DOT_ATOM}|\\[[^\\[\\]\\\\]*\\])`
const BARE_ADDRESS = new RegExp(`^[ \\t]*${ADDRESS}[ \\t]*$`, 'u')
const WORD = `(?:${QUOTED}|${ATOM})`
/** Words need something between them, so that there is one way only to read them. */
const NAME = `(?:${WORD}(?:[ \\t.]+${WORD})*[ \\t.]*)?`
const NAMED_ADDRESS = new RegExp(`^[ \\t]*${NAME}<[ \\t]*${ADDRESS}[ \\t]*>[ \\t]*$`, 'u')

function isEmail(text: string): boolean {
  return text.length <= 512 && (BARE_ADDRESS.test(text) || NAMED_ADDRESS.test(text))
}

const CHECKS: Readonly<Record<string, FormatCheck>> = {
  date: isTime('2006-01-02'),
  time: isTime('15:04:05Z07:00', '15:04:05'),
  'date-time': isTime(
    '15:04:05',
    '15:04:05Z07:00',
    '2006-01-02',
    '2006-01-02T15:04:05Z07:00',
    '2006-01-02T15:04:05.999999999Z07:00',
  ),
  hostname: isHostname,
  email: isEmail,
  'idn-email': isEmail,
  ipv4: (text) => text.includes('.') && isAddress(text),
  ipv6: (text) => text.includes(':') && isAddress(text),
  uri: isAbsoluteUri,
  'uri-reference': isUriReference,
  iri: isAbsoluteUri,
  'iri-reference': isUriReference,
  'uri-template': isUriTemplate,
  uuid: (text) => /^[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}$/i.test(text),
  regex: (text, context) => text === '' || holds(() => compilePattern(text, context)),
  'json-pointer': (text) => /^(?:\/(?:[^~/]|~[01])*)*$/.test(text),
  'relative-json-pointer': (text) => /^(?:0|[1-9][0-9]*)(?:#|(?:\/(?:[^~/]|~[01])*)*)$/.test(text),
}

/** Whether the text is of the format. */
export function matchesFormat(format: string, text: string, context: BuiltinContext): boolean {
  const check = Object.hasOwn(CHECKS, format) ? CHECKS[format] : undefined
  if (check === undefined) return true
  spend(context, NS_PER_CHAR * text.length)
  return check(text, context)
}
