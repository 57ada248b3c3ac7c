/** The stored trace and dictionary, from unchecked JSON to typed values. Unknown members are ignored, wrong ones left out. */

import { stringifyExact } from '../json/exact.ts'
import { asObject } from '../json/object.ts'

/** A rule that was entered. Values are JSON text. */
export interface TraceRule {
  readonly rule: string
  /** `file:row`. */
  readonly at: string
  readonly title: string | null
  readonly outcome: string
  readonly args: readonly (readonly [name: string, json: string])[]
  readonly value: string | null
  readonly steps: readonly TraceStep[]
  readonly rules: readonly TraceRule[]
}

/** An expression that held or failed. */
export interface TraceStep {
  readonly at: string
  readonly expr: string
  readonly ok: boolean
  readonly aborted: boolean
  readonly vars: readonly (readonly [name: string, json: string])[]
  /** It failed or is negated, so its references are known. */
  readonly hasReads: boolean
  readonly reads: readonly (readonly [name: string, json: string])[]
  readonly missing: readonly string[]
  readonly steps: readonly TraceStep[]
  readonly rules: readonly TraceRule[]
}

/** The trace of one evaluation. */
export interface Trace {
  readonly truncated: boolean
  readonly dropped: number
  readonly rules: readonly TraceRule[]
}

/** null when there is no trace. */
export function parseTrace(value: unknown): Trace | null {
  const trace = asObject(value)
  if (trace === null || !Array.isArray(trace['rules'])) return null
  return {
    truncated: trace['truncated'] === true,
    dropped: typeof trace['dropped'] === 'number' ? trace['dropped'] : 0,
    rules: toRules(trace['rules']),
  }
}

function toRules(value: unknown): readonly TraceRule[] {
  return objectsIn(value).map((rule) => ({
    rule: toText(rule['rule']),
    at: toText(rule['at']),
    title: typeof rule['title'] === 'string' ? rule['title'] : null,
    outcome: toText(rule['outcome']),
    args: toValues(rule['args']),
    value: rule['value'] === undefined ? null : stringifyExact(rule['value']),
    steps: toSteps(rule['steps']),
    rules: toRules(rule['rules']),
  }))
}

function toSteps(value: unknown): readonly TraceStep[] {
  return objectsIn(value).map((step) => ({
    at: toText(step['at']),
    expr: toText(step['expr']),
    ok: step['ok'] === true,
    aborted: step['aborted'] === true,
    vars: toValues(step['vars']),
    hasReads: step['reads'] !== undefined,
    reads: toValues(step['reads']),
    missing: Array.isArray(step['missing']) ? step['missing'].map(toText) : [],
    steps: toSteps(step['steps']),
    rules: toRules(step['rules']),
  }))
}

/** Last name of the rule's path: `deny` of `data.gateway.authz.deny` and of `data.gateway.server["my-upstream"].deny`. */
export function ruleName(rule: Pick<TraceRule, 'rule'>): string {
  const path = rule.rule.replace(/\["[^"]*"\](?=\.)/g, '')
  return /[^.[\]]*$/.exec(path.replace(/\[.*$/, ''))?.[0] ?? ''
}

/** `authz/tools.rego:24` -> file and row; row null when there is none. */
export function lineOf(at: string): readonly [file: string, row: number | null] {
  const match = /^(.*):(\d{1,7})$/s.exec(at)
  return match === null ? [at, null] : [match[1] ?? '', Number(match[2])]
}

/** The expressions of a rule's body in the order of evaluation, from the trace dictionary; null when it is not in there. */
export function bodyOf(
  dictionary: unknown,
  rule: Pick<TraceRule, 'rule' | 'at'>,
): readonly { readonly at: string; readonly text: string }[] | null {
  const { rules, exprs } = asObject(dictionary) ?? {}
  const probe = objectsIn(rules).find((one) => one['path'] === rule.rule && placeOf(one) === rule.at)
  if (probe === undefined || !Array.isArray(probe['body'])) return null
  const ids = new Set(probe['body'])
  const byId = new Map(
    objectsIn(exprs)
      .filter((one) => ids.has(one['id']))
      .map((one) => [one['id'], one]),
  )
  return probe['body']
    .map((id: unknown) => byId.get(id))
    .filter((expr) => expr !== undefined && expr['begin'] !== true)
    .map((expr) => ({ at: placeOf(expr ?? {}), text: toText(expr?.['text']) }))
}

function placeOf(probe: Readonly<Record<string, unknown>>): string {
  return `${toText(probe['file'])}:${String(probe['row'])}`
}

function toValues(value: unknown): readonly (readonly [string, string])[] {
  return Object.entries(asObject(value) ?? {}).map(([name, one]) => [name, stringifyExact(one)] as const)
}

function objectsIn(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? value.map(asObject).filter((one) => one !== null) : []
}

function toText(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
