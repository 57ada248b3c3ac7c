/** `gateway policy deps`: what rules read, and who reads a field. */
import type { Argv } from 'yargs'
import { UsageError } from '../errors.ts'
import { nearestName } from '../nearest-name.ts'
import { loadInputSchema, toBuildRequest } from '../policy/build.ts'
import type { JsonObject } from '../policy/build-data.ts'
import { PolicyBuildError } from '../policy/build-error.ts'
import { loadPolicySources } from '../policy/build-sources.ts'
import type { Reader, RuleReads } from '../policy/rule-reads.ts'
import { readersOf, readsOfRules } from '../policy/rule-reads.ts'
import type { CommandArgs } from './context.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'
import { showRefusal } from './policy-check.ts'
import type { PolicyPlace } from './policy-place.ts'
import { findPolicies, withCompiler } from './policy-place.ts'
import { escapeText } from './text.ts'
import { WIDTH, wrap } from './tree-lines.ts'

/** Options of the command. */
export interface DepsArgs extends CommandArgs {
  readonly subject?: string | undefined
  readonly policies?: string | undefined
}

/** Describes the command line. */
export function depsOptions(command: Argv<CommandArgs>): Argv<DepsArgs> {
  return command
    .positional('subject', {
      type: 'string',
      describe: 'A rule (what does it read?), or a reference into input or data (who reads it?)',
    })
    .option('policies', {
      type: 'string',
      requiresArg: true,
      describe: 'Policies folder (default: the configured one)',
    })
    .example('$0 policy deps', 'What every rule reads')
    .example('$0 policy deps deny', 'What the deny rules read, and what through other rules')
    .example('$0 policy deps input.principal.claims.mfa', 'Which rules read it')
    .example('$0 policy deps data.servers --json', 'For programs')
}

/** Prints what is read. A reference that no rule reads is no failure; one that the input cannot have is. */
export async function deps({ subject, ...args }: DepsArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const place = findPolicies({ ...args, dir: args.policies })
  const { rules, schema } = await out
    .progress('reading the policies', () => read(place))
    .catch((error: unknown) => showRefusal(out, error, place.folder))
  if (subject === undefined) showRules(out, rules, false)
  else if (/^(input|data)\b/.test(subject) && !rules.some(({ rule }) => rule === subject)) {
    if (subject.startsWith('input')) refuseUnknownField(subject, schema)
    showReaders(out, subject, readersOf(subject, rules))
  } else showRules(out, rulesNamed(subject, rules), true)
}

async function read(
  place: PolicyPlace,
): Promise<{ readonly rules: readonly RuleReads[]; readonly schema: JsonObject }> {
  return await withCompiler(place, async (compiler) => {
    const schema = await loadInputSchema()
    const { instrument: _, ...request } = toBuildRequest(await loadPolicySources(place.folder), schema)
    const answer = await compiler.dependencies(request)
    if (!answer.ok) throw new PolicyBuildError(answer.errors)
    return { rules: readsOfRules(answer.rules), schema }
  })
}

function rulesNamed(name: string, rules: readonly RuleReads[]): readonly RuleReads[] {
  const found = rules.filter(({ rule }) => rule === name || rule.endsWith(`.${name}`))
  if (found.length > 0) return found
  const names = rules.map(({ rule }) => shortName(rule))
  const near = nearestName(name, names)
  const meant = near === null ? '' : ` Did you mean ${near}?`
  throw new UsageError('not_found', `No rule is called ${name}.${meant} All of them: gateway policy deps`)
}

/** A misspelt field would look like one that nobody needs. */
function refuseUnknownField(reference: string, schema: JsonObject): void {
  const [, ...steps] = reference.split('.')
  let at: JsonObject | undefined = schema
  let path = 'input'
  for (const step of steps) {
    const properties: unknown = at?.['properties']
    if (typeof properties !== 'object' || properties === null) return
    const known = properties as Readonly<Record<string, JsonObject>>
    const name = step.replace(/\[.*$/s, '')
    if (!Object.hasOwn(known, name)) {
      const near = nearestName(name, Object.keys(known))
      const meant = near === null ? '' : ` Did you mean ${path}.${near}?`
      throw new UsageError(
        'not_found',
        `${path} has no field ${name}.${meant} Fields: ${Object.keys(known).join(', ')}`,
      )
    }
    at = known[name]
    path = `${path}.${name}`
  }
}

function showRules(out: Output, rules: readonly RuleReads[], isWhole: boolean): void {
  if (out.isJson) {
    out.json(rules.map(toDocument))
    return
  }
  rules.forEach((rule, index) => {
    if (index > 0) out.line()
    head(out, rule)
    facts(out, 'input', rule.input)
    facts(out, 'data', rule.data)
    facts(out, 'rules', rule.rules.map(shortName))
    const own = new Set([...rule.input, ...rule.data])
    if (isWhole)
      facts(
        out,
        'through',
        [...rule.allInput, ...rule.allData].filter((one) => !own.has(one)),
      )
  })
}

function head(out: Output, { rule, file, row, reachable }: RuleReads): void {
  const note = reachable ? '' : '  no decision leads to it'
  out.line(`${out.style('strong', escapeText(rule))}  ${escapeText(`${file}:${row}`)}${note}`)
}

function showReaders(out: Output, reference: string, readers: readonly Reader[]): void {
  if (out.isJson) {
    const toReader = ({ rule, direct, via }: Reader) => ({ ...placeOf(rule), reads: direct, via })
    out.json(readers.map(toReader))
    return
  }
  if (readers.length === 0) {
    out.note(`No rule reads ${escapeText(reference)}.`)
    return
  }
  readers.forEach(({ rule, direct, via }, index) => {
    if (index > 0) out.line()
    head(out, rule)
    facts(out, 'reads', direct)
    facts(out, 'through', via.map(shortName))
  })
}

/** `  name  a, b, c`, wrapped; nothing for an empty list. */
function facts(out: Output, name: string, values: readonly string[]): void {
  if (values.length === 0) return
  const lead = `  ${name.padEnd(7)}  `
  const lines = wrap(values.map(escapeText).join(', '), WIDTH - lead.length)
  lines.forEach((line, at) => {
    out.line(`${at === 0 ? lead : ' '.repeat(lead.length)}${line}`)
  })
}

/** Rules of the organisation's package by their own names. */
function shortName(rule: string): string {
  return rule.replace(/^data\.gateway\.authz\./, '')
}

function placeOf({ rule, file, row, col }: RuleReads): object {
  return { rule, file, row, col }
}

function toDocument(reads: RuleReads): object {
  const { input, data, rules, allInput, allData, reachable } = reads
  return { ...placeOf(reads), input, data, rules, all_input: allInput, all_data: allData, reachable }
}
