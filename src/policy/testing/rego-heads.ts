/** Finds the rules `test_..` of Rego files: what the compiler has to be asked for before it has read the files. */

/** A rule that is a test. */
export interface TestRule {
  readonly file: string
  /** 1-based; of its first definition. */
  readonly row: number
  /** With its `todo_`, without sub-cases: `test_x`, `todo_test_x`. */
  readonly name: string
  /** Such as `authz_test/test_x`. */
  readonly entrypoint: string
  /** Such as `data.authz_test.test_x`. */
  readonly path: string
}

const PACKAGE = /^\s*package\s+([A-Za-z_]\w*(?:\.[A-Za-z_]\w*|\["[^"\\\n]*"\])*)/m
const HEAD = /^[ \t]*((?:todo_)?test_\w*)[ \t]*(?=[[.{:=\n]|if\b|contains\b|$)/
const DEFAULT = /^[ \t]*default[ \t]+([A-Za-z_]\w*)/

/** The tests of a file, in order, each once. Functions are none. */
export function findTestRules(file: string, text: string): readonly TestRule[] {
  const segments = packageOf(text)
  if (segments === null) return []
  const rules = new Map<string, TestRule>()
  topLevelLines(text).forEach((line, index) => {
    const name = HEAD.exec(line)?.[1]
    if (name === undefined || rules.has(name)) return
    const entrypoint = [...segments, name].join('/')
    rules.set(name, {
      file,
      row: index + 1,
      name,
      entrypoint,
      path: pathIn(segments, name),
    })
  })
  return [...rules.values()]
}

/** Names with a `default` in a file, with their rows. */
export function findDefaults(text: string): readonly { readonly name: string; readonly row: number }[] {
  return topLevelLines(text).flatMap((line, index) => {
    const name = DEFAULT.exec(line)?.[1]
    return name === undefined ? [] : [{ name, row: index + 1 }]
  })
}

/** Segments of the package's path; null when the file has none. */
export function packageOf(text: string): readonly string[] | null {
  const path = PACKAGE.exec(blanked(text, true))?.[1]
  if (path === undefined) return null
  return [...path.matchAll(/\["([^"]*)"\]|([A-Za-z_]\w*)/g)].map(([, quoted, name]) => quoted ?? name ?? '')
}

/** Path of what a package defines under a name: `data.p["q-r"].name`. */
export function pathIn(segments: readonly string[], name: string): string {
  return `${packagePath(segments)}.${name}`
}

/** Path of a package, as the trace dictionary writes it. */
export function packagePath(segments: readonly string[]): string {
  return `data${segments.map(toStep).join('')}`
}

function toStep(segment: string): string {
  return /^[A-Za-z_]\w*$/.test(segment) ? `.${segment}` : `[${JSON.stringify(segment)}]`
}

/** Lines without strings and comments; those inside brackets are empty. */
function topLevelLines(text: string): readonly string[] {
  let depth = 0
  return blanked(text, false)
    .split('\n')
    .map((line) => {
      const isTop = depth === 0
      for (const char of line) {
        if ('{[('.includes(char)) depth += 1
        else if ('}])'.includes(char)) depth = Math.max(0, depth - 1)
      }
      return isTop ? line : ''
    })
}

const TOKEN = /"(?:[^"\\\n]|\\.)*"?|`[^`]*`?|#[^\n]*/g

/** The same text with spaces in the place of comments and strings; line breaks stay. */
function blanked(text: string, keepStrings: boolean): string {
  return text.replace(TOKEN, (token) =>
    keepStrings && token.startsWith('"') ? token : token.replace(/[^\n]/g, ' '),
  )
}
