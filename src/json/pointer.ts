/** JSON Pointers (RFC 6901): where in a document something stands. */

const BAD_ESCAPE = /~(?![01])/

/** The reference tokens of a pointer, unescaped; null when the text is none. The empty pointer is the whole document. */
export function parsePointer(text: string): readonly string[] | null {
  if (text === '') return []
  if (!text.startsWith('/') || BAD_ESCAPE.test(text)) return null
  return text
    .slice(1)
    .split('/')
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'))
}

/** The pointer to such a path. */
export function toPointer(path: readonly string[]): string {
  return path.map((token) => `/${token.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
}
