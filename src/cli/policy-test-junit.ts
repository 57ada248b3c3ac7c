/** The report in the format of JUnit, as CI systems read it: a suite per file, a case per test. */
import { messageKind } from '../policy/message.ts'
import type { TestReport, TestResult } from '../policy/testing/report.ts'
import { countOutcomes } from './policy-test-lines.ts'
import type { TestOutcome } from './policy-test-outcome.ts'
import { failureText, messageText, titleOf } from './policy-test-outcome.ts'
import { escapeText } from './text.ts'

/** The whole document. When nothing has run, each message is an error. */
export function toJunit(outcome: TestOutcome, toPath: (file: string) => string): string {
  const body = outcome.kind === 'ran' ? suites(outcome.report, toPath) : refusal(outcome.error.errors, toPath)
  return `<?xml version="1.0" encoding="UTF-8"?>\n${body}\n`
}

function suites(report: TestReport, toPath: (file: string) => string): string {
  const files = report.files.map((file) => ({
    file,
    results: report.results.filter(({ place }) => place.file === file),
  }))
  const inner = files
    .filter(({ results }) => results.length > 0)
    .map(({ file, results }) => {
      const path = toPath(file)
      const cases = results.map((result) => testCase(result, path)).join('\n')
      return `  <testsuite${attributes({ name: escapeText(path), ...numbers(results) })}>\n${cases}\n  </testsuite>`
    })
  const top = attributes({ name: 'gateway policy test', ...numbers(report.results) })
  return `<testsuites${top}>\n${inner.join('\n')}\n</testsuites>`
}

function numbers(results: readonly TestResult[]): Readonly<Record<string, string | number>> {
  const { failed, skipped, todo } = countOutcomes(results)
  const ms = results.reduce((sum, result) => sum + result.ms, 0)
  return { tests: results.length, failures: failed, errors: 0, skipped: skipped + todo, time: seconds(ms) }
}

function testCase(result: TestResult, path: string): string {
  const { place, outcome, reason, ms } = result
  const head = attributes({
    name: titleOf(result),
    classname: escapeText(path),
    file: escapeText(path),
    line: place.row,
    time: seconds(ms),
  })
  if (outcome === 'passed') return `    <testcase${head}/>`
  if (outcome !== 'failed') {
    const message = outcome === 'todo' ? `todo${reason === null ? '' : `: ${reason}`}` : (reason ?? '')
    return `    <testcase${head}><skipped${attributes({ message: escapeText(message) })}/></testcase>`
  }
  const text = failureText(result)
  const [first = ''] = text.split('\n')
  return `    <testcase${head}><failure${attributes({ message: first, type: 'failure' })}>${xml(text)}</failure></testcase>`
}

function refusal(
  errors: Extract<TestOutcome, { kind: 'refused' }>['error']['errors'],
  toPath: (file: string) => string,
): string {
  const counts = { tests: errors.length, failures: 0, errors: errors.length, skipped: 0, time: seconds(0) }
  const cases = errors.map((error) => {
    const { id, title } = messageKind(error)
    const path = escapeText(toPath(error.file))
    const head = attributes({
      name: `${id} ${title}`,
      classname: path,
      file: path,
      line: error.row,
      time: seconds(0),
    })
    const message = attributes({ message: escapeText(error.message), type: id })
    return `    <testcase${head}><error${message}>${xml(messageText(error))}</error></testcase>`
  })
  const top = attributes({ name: 'gateway policy test', ...counts })
  const suite = attributes({ name: 'build', ...counts })
  return `<testsuites${top}>\n  <testsuite${suite}>\n${cases.join('\n')}\n  </testsuite>\n</testsuites>`
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(6)
}

function attributes(values: Readonly<Record<string, string | number>>): string {
  return Object.entries(values)
    .map(([name, value]) => ` ${name}="${xml(String(value)).replaceAll('\n', '&#10;')}"`)
    .join('')
}

/** What XML 1.0 §2.2 does not allow, not even as a reference. */
const NOT_XML = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu
const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
}

function xml(text: string): string {
  return text.replace(NOT_XML, '\ufffd').replace(/[&<>"']/g, (char) => ENTITIES[char] ?? char)
}
