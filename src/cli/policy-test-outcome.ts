/** What came of `gateway policy test`, in whatever format it is written: a report, or why nothing has run. */
import { relative, resolve } from 'node:path'
import type { PolicyBuildError } from '../policy/build-error.ts'
import type { PolicyError } from '../policy/compiler.ts'
import { layoutMessage } from '../policy/message.ts'
import type { TestReport, TestResult } from '../policy/testing/report.ts'
import { failureTexts } from './policy-test-lines.ts'
import { escapeText } from './text.ts'

/** Either the tests ran, or policies, tests or tables are wrong. */
export type TestOutcome =
  | { readonly kind: 'ran'; readonly report: TestReport }
  | { readonly kind: 'refused'; readonly error: PolicyBuildError }

/** Turns the name of a file in the folder into the path from here, with `/`: what reviews and editors know it by. */
export function pathFrom(cwd: string, folder: string): (file: string) => string {
  return (file) => {
    const path = relative(cwd, resolve(cwd, folder, file)).replaceAll('\\', '/')
    return path === '' ? '.' : path
  }
}

/** A test's name with its combination. Escaped. */
export function titleOf({ name, labels }: Pick<TestResult, 'name' | 'labels'>): string {
  return escapeText(labels.length === 0 ? name : `${name} [${labels.join(', ')}]`)
}

/** Why a test failed, in lines. Escaped. */
export function failureText(result: TestResult): string {
  return failureTexts(result).join('\n')
}

/** A message of a build in lines. Escaped. */
export function messageText(error: PolicyError): string {
  return layoutMessage(error).map(escapeText).join('\n')
}
