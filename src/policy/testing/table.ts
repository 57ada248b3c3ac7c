/** What a test table says, once it has been read: one test for each combination of its matrices. Types only. */
import type { CallFacts } from '../asked-call.ts'
import type { Place, YamlDocument, YamlPath } from './yaml-document.ts'

/** One call and what the policy has to say about it. */
export interface TestCase {
  /** Where the case stands. */
  readonly place: Place
  /** With the names of the groups around it. */
  readonly name: string
  /** Which combination of the matrix: names of principal, target and, if there are several, server. */
  readonly labels: readonly string[]
  /** Nanoseconds since the epoch. */
  readonly nowNs: bigint
  readonly phase: 'call' | 'list'
  readonly facts: CallFacts
  readonly expect: Expectation
  /** Why it is not run; null = it is. */
  readonly skip: string | null
  readonly origins: readonly Origin[]
  readonly written: Written
}

/** Where a case and what it expects are written. */
export interface Written {
  readonly document: YamlDocument
  /** Of the case. */
  readonly path: YamlPath
  /** Of the expectation; null = there is none for this combination, so it has to be denied. */
  readonly entry: YamlPath | null
  readonly choice: Choice
}

/** One combination of a case, by the names that expectations choose it with. */
export interface Choice {
  readonly principal: string
  /** Name of tool or target. */
  readonly what: string
  readonly server: string
}

/** What is compared; null = not compared. Reasons are sorted. */
export interface Expectation {
  readonly allow: boolean
  readonly allowedBy: readonly string[] | null
  readonly deniedBy: readonly string[] | null
  readonly limits: readonly ExpectedLimit[] | null
  readonly obligations: readonly unknown[] | null
  /** As policies write them: a JSON Pointer, or an object with op, path and value. */
  readonly mask: readonly unknown[] | null
  readonly failure: string | null
}

/** A limit by name; of the other members those that are there. */
export interface ExpectedLimit {
  readonly name: string
  readonly [member: string]: unknown
}

/** Where a part of the input was written. */
export interface Origin {
  /** Path below `input`, such as `principal`. */
  readonly input: readonly string[]
  /** The member below that the name of what stands there gives, such as `id`; null = none. */
  readonly own: string | null
  readonly document: YamlDocument
  readonly path: YamlPath
  /** What stands there, such as `fixtures.principals.eng`. */
  readonly label: string
}

/** The time of cases that name none, and of rules `test_..`: 2026-01-01T00:00:00Z. */
export const DEFAULT_NOW_NS = 1_767_225_600_000_000_000n
