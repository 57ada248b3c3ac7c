/** What a person reads when policies do not build. */
import type { PolicyError } from './compiler.ts'
import type { Paint } from './message.ts'
import { layoutMessage, messageKind } from './message.ts'

/** Everything that is wrong with a set of policies. */
export class PolicyBuildError extends Error {
  readonly errors: readonly PolicyError[]

  constructor(errors: readonly PolicyError[], options?: ErrorOptions) {
    super(summary(errors), options)
    this.name = 'PolicyBuildError'
    this.errors = errors
  }

  /** Every error with its id, place, source line, marker and way out; several lines of text. */
  format(paint?: Paint): string {
    return formatMessages(this.errors, paint)
  }
}

/** Messages as lines, an empty one between them. */
export function formatMessages(messages: readonly PolicyError[], paint?: Paint): string {
  return messages.map((message) => layoutMessage(message, paint).join('\n')).join('\n\n')
}

/** Messages as programs read them. */
export function toMessageDocuments(messages: readonly PolicyError[]): readonly object[] {
  return messages.map((message) => {
    const { id, title, severity } = messageKind(message)
    return { id, title, severity, ...message }
  })
}

function summary(errors: readonly PolicyError[]): string {
  const [first] = errors
  if (first === undefined) return 'the policies do not build'
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : ''
  return `${place(first)}${first.message}${more}`
}

function place(error: PolicyError): string {
  if (error.file === '') return ''
  return error.row > 0 ? `${error.file}:${error.row}:${error.col}: ` : `${error.file}: `
}
