/** Which part of a message a policy sees as `input.arguments`. Pure, on the text: numbers keep their digits. */
import type { Span } from '../json/span.ts'
import { findValue, sliceOf } from '../json/span.ts'

/** Request method -> the members of `params` that are its arguments. */
const ARGUMENT_MEMBERS: ReadonlyMap<string, readonly string[]> = new Map([
  ['resources/read', ['uri']],
  ['resources/subscribe', ['uri']],
  ['resources/unsubscribe', ['uri']],
  ['completion/complete', ['ref', 'argument', 'context']],
  ['logging/setLevel', ['level']],
])

/** Methods whose `params` have a member `arguments`. */
const WITH_ARGUMENTS: ReadonlySet<string> = new Set(['tools/call', 'prompts/get'])

/** Where the members of a request's arguments stand in its message. */
export function argumentsPath(method: string): readonly string[] {
  return WITH_ARGUMENTS.has(method) ? ['params', 'arguments'] : ['params']
}

/**
 * The arguments of a request.
 *
 * @param params where `params` stands in `text`; undefined when there are none
 * @returns `text` null when the method has no arguments; null when they should be an object and are not
 */
export function argumentsOf(
  method: string,
  text: string,
  params: Span | undefined,
): { readonly text: string | null } | null {
  if (WITH_ARGUMENTS.has(method)) {
    const span = params === undefined ? null : findValue(text, ['arguments'], params)
    if (span === null) return { text: '{}' }
    return text[span.start] === '{' ? { text: sliceOf(text, span) } : null
  }
  const names = ARGUMENT_MEMBERS.get(method)
  if (names === undefined) return { text: null }
  const members = names.flatMap((name) => {
    const span = params === undefined ? null : findValue(text, [name], params)
    return span === null ? [] : [`"${name}":${sliceOf(text, span)}`]
  })
  return { text: `{${members.join(',')}}` }
}
