/** `gateway policy eval`: one question to the module that serves, and everything it says about it. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Argv } from 'yargs'
import type { RecordedQuestion } from '../audit/replay.ts'
import { toRecordedQuestion } from '../audit/replay.ts'
import { readSecretFile } from '../config/secret-file.ts'
import { UsageError } from '../errors.ts'
import { parseExact, stringifyExact } from '../json/exact.ts'
import { buildPolicy, loadInputSchema } from '../policy/build.ts'
import { loadPolicySources } from '../policy/build-sources.ts'
import { evaluateQuestion } from '../policy/evaluate.ts'
import type { InputQuestion } from '../policy/input-document.ts'
import { InputRefused, parseInputDocument } from '../policy/input-document.ts'
import { confirmInput } from '../policy/input-mac.ts'
import { findCase } from '../policy/testing/find-case.ts'
import { deriveKey, parseSecret } from '../secret.ts'
import type { CommandArgs, DatabaseContext } from './context.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'
import { showRefusal } from './policy-check.ts'
import type { Evaluated, Recorded } from './policy-eval-lines.ts'
import { layoutEvaluation, toEvaluationDocument } from './policy-eval-lines.ts'
import type { PolicyPlace } from './policy-place.ts'
import { findPolicies, withCompiler } from './policy-place.ts'

/** Options of the command. */
export interface EvalArgs extends CommandArgs {
  readonly input?: string | undefined
  readonly row?: string | undefined
  readonly case?: string | undefined
  readonly policies?: string | undefined
  readonly 'save-input'?: string | undefined
  readonly full: boolean
}

/** Describes the command line. */
export function evalOptions(command: Argv<CommandArgs>): Argv<EvalArgs> {
  const text = (describe: string) => ({ type: 'string', requiresArg: true, describe }) as const
  return command
    .positional('input', {
      type: 'string',
      describe: 'File with a policy input (schemas/policy-input.schema.json)',
    })
    .option('row', text('A recorded attempt instead: id of its row, or the beginning of it'))
    .option('case', text('A case of a test table instead: cases/FILE:LINE, or what a failing test prints'))
    .option('policies', text('Policies folder (default: the configured one)'))
    .option('save-input', text('Write the input to this file'))
    .option('full', { type: 'boolean', default: false, describe: 'All rules whole, values uncut' })
    .example('$0 policy eval input.json', 'What the policies say about an input')
    .example('$0 policy eval --row 019a8f2c', 'What they would say today about a recorded attempt')
    .example('$0 policy eval --row 019a8f2c --save-input input.json', 'Keep its input to play with')
}

/** Evaluates and prints; exit code 0 whatever the decision is. */
export async function evaluate(args: EvalArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const place = findPolicies({ ...args, dir: args.policies })
  const asked = await questionOf(args, place, streams)
  const evaluated = await out
    .progress('evaluating', () => answer(asked, place))
    .catch((error: unknown) => showRefusal(out, error, place.folder, 'Nothing was evaluated.'))
  await saveInput(out, args['save-input'], evaluated)
  if (out.isJson) out.line(stringifyExact(toEvaluationDocument(evaluated), 2))
  else for (const line of layoutEvaluation(evaluated, { out, full: args.full })) out.line(line)
}

/** A question, and where it comes from. */
interface Asked {
  readonly question: InputQuestion
  readonly recorded: Recorded | null
}

async function questionOf(args: EvalArgs, place: PolicyPlace, streams?: Streams): Promise<Asked> {
  const given = [args.input, args.row, args.case].filter((one) => one !== undefined)
  if (given.length !== 1) {
    throw new UsageError('usage', 'Give one thing to evaluate: a file, --row ID or --case FILE:LINE.')
  }
  if (args.row !== undefined) return await askedOfRow(args, args.row, streams)
  if (args.case !== undefined)
    return { question: await caseQuestion(place.folder, args.case), recorded: null }
  const file = args.input ?? ''
  return { question: await parseQuestion(await readInput(file), file), recorded: null }
}

async function readInput(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (cause) {
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown'
    throw new UsageError('usage', `${file} cannot be read (${reason}).`, { cause })
  }
}

async function parseQuestion(text: string, name: string): Promise<InputQuestion> {
  try {
    return parseInputDocument(text, await loadInputSchema())
  } catch (error) {
    if (!(error instanceof InputRefused)) throw error
    const list = error.problems.map(({ path, message }) => `  ${path === '' ? '' : `${path}: `}${message}`)
    const lines = [`${name} is no policy input:`, ...list, 'See schemas/policy-input.schema.json.']
    throw Object.assign(new UsageError('usage', lines.join('\n'), { cause: error }), {
      problems: error.problems,
    })
  }
}

async function caseQuestion(folder: string, name: string): Promise<InputQuestion> {
  const found = await findCase(folder, name)
  if ('question' in found) return found.question
  throw new UsageError(
    'not_found',
    [`No case is called ${name}. There are:`, ...found.near.map((one) => `  ${one}`)].join('\n'),
  )
}

/** What belongs to the database is loaded only here: other commands of this group start faster without it. */
async function askedOfRow(args: EvalArgs, id: string, streams?: Streams): Promise<Asked> {
  const { withDatabase } = await import('./context.ts')
  return await withDatabase(args, (context) => rowQuestion(context, id), streams)
}

async function rowQuestion({ config, pools, home }: DatabaseContext, id: string): Promise<Asked> {
  const { findRow } = await import('./audit-row.ts')
  const row = await findRow(pools.general, id)
  const recorded = toRecordedQuestion(row)
  if (recorded === null) {
    throw new UsageError(
      'check_failed',
      `The policy was not asked about ${row.id} (${row.outcome}), so there is nothing to evaluate.`,
    )
  }
  const question = await parseQuestion(recorded.inputText, `The input of row ${row.id}`)
  const secret = config.secret ?? secretOf(home)
  const key = secret === null ? null : deriveKey(parseSecret(secret), 'input_mac')
  const replay = replayOf(recorded, question, key, config.limits.maxInputBytes)
  return { question, recorded: { id: row.id, ...recorded.decided, replay, losses: recorded.losses } }
}

/** Of the gateway with the embedded database; null when it has made none. */
function secretOf(home: string | null): string | null {
  if (home === null) return null
  try {
    return readSecretFile(join(home, 'gateway-secret'))
  } catch {
    return null
  }
}

function replayOf(
  recorded: RecordedQuestion,
  question: InputQuestion,
  key: Buffer | null,
  maxBytes: number,
): Recorded['replay'] {
  const { inputMac, losses } = recorded
  if (key !== null && inputMac !== null && confirmInput(question, inputMac, key, maxBytes)) return 'exact'
  if (losses.length > 0) return 'incomplete'
  return key === null || inputMac === null ? 'unchecked' : 'unconfirmed'
}

async function answer({ question, recorded }: Asked, place: PolicyPlace): Promise<Evaluated> {
  return await withCompiler(place, async (compiler) => {
    const sources = await loadPolicySources(place.folder)
    const policy = await buildPolicy(sources, { compiler, cacheDir: place.cacheDir })
    const { limits } = place
    const answered = await evaluateQuestion(question, {
      policy,
      limits,
      monotonicMs: () => performance.now(),
    })
    return { question, policy, answered, recorded }
  })
}

async function saveInput(out: Output, file: string | undefined, { answered }: Evaluated): Promise<void> {
  if (file === undefined) return
  const text = stringifyExact(parseExact(answered.inputText), 2)
  try {
    await writeFile(file, `${text}\n`)
  } catch (cause) {
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown'
    throw new UsageError('usage', `${file} cannot be written (${reason}).`, { cause })
  }
  out.note(`the input is in ${file}`)
}
