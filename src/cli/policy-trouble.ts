/** What is wrong with policies that should serve, as an error for people. */
import { UsageError } from '../errors.ts'
import { PolicyBuildError } from '../policy/build-error.ts'
import { BundleRefused } from '../policy/bundle-error.ts'
import { PolicyFault } from '../policy/host-fault.ts'

/** UsageError `policy` for what is wrong with policies; every other error as it is. */
export function toPolicyTrouble(error: unknown): unknown {
  const text = textOf(error)
  return text === null ? error : new UsageError('policy', text, { cause: error })
}

function textOf(error: unknown): string | null {
  if (error instanceof PolicyBuildError) return error.format()
  if (error instanceof BundleRefused || error instanceof PolicyFault) return error.message
  return null
}
