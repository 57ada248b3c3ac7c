/** The report as SARIF 2.1.0 (OASIS), as code scanning reads it: a result for each thing that is wrong. */
import type { PolicyError } from '../policy/compiler.ts'
import { messageKind } from '../policy/message.ts'
import type { TestResult } from '../policy/testing/report.ts'
import { VERSION } from '../version.ts'
import type { TestOutcome } from './policy-test-outcome.ts'
import { failureText, titleOf } from './policy-test-outcome.ts'
import { escapeText } from './text.ts'

const FAILED_TEST = { id: 'policy-test', title: 'a test of the policies fails' }

interface SarifResult {
  readonly ruleId: string
  readonly title: string
  readonly level: 'error' | 'warning'
  readonly text: string
  readonly file: string
  readonly region: Readonly<Record<string, number>> | null
}

/** The whole document. */
export function toSarif(outcome: TestOutcome, toPath: (file: string) => string): object {
  const results =
    outcome.kind === 'refused'
      ? outcome.error.errors.map(ofError)
      : outcome.report.results.filter((result) => result.outcome === 'failed').map(ofTest)
  const rules = new Map(results.map(({ ruleId, title }) => [ruleId, title]))
  const ids = [...rules.keys()]
  return {
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'gateway policy test',
            semanticVersion: VERSION,
            rules: [...rules].map(([id, title]) => ({ id, shortDescription: { text: title } })),
          },
        },
        columnKind: 'unicodeCodePoints',
        results: results.map((result) => ({
          ruleId: result.ruleId,
          ruleIndex: ids.indexOf(result.ruleId),
          level: result.level,
          message: { text: result.text },
          locations: locations(result, toPath),
        })),
      },
    ],
  }
}

function ofTest(result: TestResult): SarifResult {
  const { file, row } = result.place
  return {
    ruleId: FAILED_TEST.id,
    title: FAILED_TEST.title,
    level: 'error',
    text: `${titleOf(result)}\n${failureText(result)}`.trim(),
    file,
    region: { startLine: row },
  }
}

function ofError(error: PolicyError): SarifResult {
  const { id, title, severity } = messageKind(error)
  const { file, row, col, endCol, message, hint } = error
  const place = { startLine: row, startColumn: Math.max(1, col) }
  return {
    ruleId: id,
    title,
    level: severity,
    text: [message, ...(hint === null ? [] : [hint])].map(escapeText).join('\n'),
    file,
    region:
      row === 0
        ? null
        : { ...place, ...(endCol === undefined || endCol <= col ? {} : { endColumn: endCol }) },
  }
}

/** Relative references, as RFC 3986 has them: `a b.rego` is `a%20b.rego`. */
function locations({ file, region }: SarifResult, toPath: (file: string) => string): readonly object[] {
  if (file === '') return []
  const uri = toPath(file).split('/').map(encodeURIComponent).join('/')
  return [{ physicalLocation: { artifactLocation: { uri }, ...(region === null ? {} : { region }) } }]
}
