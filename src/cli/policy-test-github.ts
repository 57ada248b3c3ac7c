/** The report for GitHub Actions: what people read, and a workflow command for each thing that is wrong. */
import { messageKind } from '../policy/message.ts'
import type { TestOutcome } from './policy-test-outcome.ts'
import { failureText, titleOf } from './policy-test-outcome.ts'
import { escapeText } from './text.ts'

/** GitHub shows ten annotations of a step; what is beyond fifty is of no use to anybody. */
const MAX_ANNOTATIONS = 50

/**
 * @param lines what people read; names in it must not be taken for commands
 * @param token ends the part without commands; nobody who writes policies may know it
 */
export function toGithub(
  lines: readonly string[],
  outcome: TestOutcome,
  { toPath, token }: { readonly toPath: (file: string) => string; readonly token: string },
): readonly string[] {
  return [
    `::stop-commands::${token}`,
    ...lines,
    `::${token}::`,
    ...annotations(outcome, toPath).slice(0, MAX_ANNOTATIONS),
  ]
}

function annotations(outcome: TestOutcome, toPath: (file: string) => string): readonly string[] {
  if (outcome.kind === 'refused') {
    return outcome.error.errors.map((error) => {
      const { id, title, severity } = messageKind(error)
      const { file, row, col, endCol, message, hint } = error
      const place = row > 0 ? { line: row, col, ...(endCol === undefined ? {} : { endColumn: endCol }) } : {}
      const said = hint === null ? message : `${message}\n${hint}`
      const where = file === '' ? {} : { file: toPath(file), ...place }
      return command(severity, { ...where, title: `${id} ${title}` }, escapeLines(said))
    })
  }
  const failed = outcome.report.results.filter((result) => result.outcome === 'failed')
  return failed.map((result) => {
    const { file, row } = result.place
    return command('error', { file: toPath(file), line: row, title: titleOf(result) }, failureText(result))
  })
}

function escapeLines(text: string): string {
  return text.split('\n').map(escapeText).join('\n')
}

/** https://docs.github.com/actions/reference/workflow-commands-for-github-actions */
function command(
  name: string,
  properties: Readonly<Record<string, string | number>>,
  message: string,
): string {
  const list = Object.entries(properties).map(([key, value]) => `${key}=${property(String(value))}`)
  return `::${name} ${list.join(',')}::${data(message)}`
}

function data(text: string): string {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A')
}

function property(text: string): string {
  return data(text).replaceAll(':', '%3A').replaceAll(',', '%2C')
}
