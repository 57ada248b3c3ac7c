/** What a person reads when policies do not build. */
import type { PolicyError } from './compiler.ts'

/** Everything that is wrong with a set of policies. */
export class PolicyBuildError extends Error {
  readonly errors: readonly PolicyError[]

  constructor(errors: readonly PolicyError[], options?: ErrorOptions) {
    super(summary(errors), options)
    this.name = 'PolicyBuildError'
    this.errors = errors
  }

  /** Every error with its place, source line, marker and way out; several lines of text. */
  format(): string {
    return this.errors.map(formatError).join('\n\n')
  }
}

function summary(errors: readonly PolicyError[]): string {
  const [first] = errors
  if (first === undefined) return 'the policies do not build'
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : ''
  return `${place(first)}${first.message}${more}`
}

function formatError(error: PolicyError): string {
  const lines = [`${place(error)}${error.message}`]
  if (error.line !== null && error.row > 0) lines.push(...excerpt(error, error.line))
  if (error.hint !== null) lines.push(`  = ${printable(error.hint)}`)
  return lines.join('\n')
}

function place(error: PolicyError): string {
  if (error.file === '') return ''
  return error.row > 0 ? `${error.file}:${error.row}:${error.col}: ` : `${error.file}: `
}

/** How much of a long source line is shown, in characters. */
const EXCERPT = 120

function excerpt(error: PolicyError, line: string): string[] {
  const characters = [...line]
  const start = error.col > EXCERPT ? error.col - EXCERPT / 2 : 0
  const shown = characters.slice(start, start + EXCERPT)
  const before = shown.slice(0, error.col - 1 - start)
  const width = Math.max(1, Math.min((error.endCol ?? 0) - error.col, shown.length - before.length))
  // Tabs stay tabs, so that the marker stands where the terminal puts the text.
  const indent = before.map((character) => (character === '\t' ? '\t' : ' ')).join('')
  return [`  ${printable(shown.join(''))}`, `  ${indent}${'^'.repeat(width)}`]
}

/** Control and direction characters of a source must not reach a terminal as such. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}]/gu, (character) =>
    character === '\t' ? character : '\uFFFD',
  )
}
