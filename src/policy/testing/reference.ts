/** References as authors write them -> paths: `input.a["b"].c[0]` is `a`, `b`, `c`, 0. */

const SEGMENT = /\.([A-Za-z_]\w*)|\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|\[[^\]]*\]/y

/** The constant beginning of a reference's path, without its root; a segment that is a variable ends it. */
export function constantPath(text: string): readonly (string | number)[] {
  const path: (string | number)[] = []
  SEGMENT.lastIndex = /^[A-Za-z_]\w*/.exec(text)?.[0].length ?? text.length
  for (let match = SEGMENT.exec(text); match !== null; match = SEGMENT.exec(text)) {
    const [, name, quoted, index] = match
    if (name !== undefined) path.push(name)
    else if (quoted !== undefined) path.push(JSON.parse(`"${quoted}"`) as string)
    else if (index !== undefined) path.push(Number(index))
    else break
  }
  return path
}

/** Names an expression may refer to rules by, in their order: dotted words outside of strings and not behind a dot. */
export function wordsOf(expression: string): readonly string[] {
  const bare = expression.replace(/"(?:[^"\\]|\\.)*"|`[^`]*`|#.*/g, ' ""')
  return [...new Set(bare.match(/(?<![\w.\]"])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*/g) ?? [])]
}
