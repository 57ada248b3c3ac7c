/** What is wrong with one case of a table. */
import type { PolicyError } from '../compiler.ts'

/** A mistake that ends the reading of one case. */
export class CaseProblem extends Error {
  readonly error: PolicyError
  constructor(error: PolicyError) {
    super(error.message)
    this.error = error
  }
}
