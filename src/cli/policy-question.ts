/** A question for the policies of a folder: from a file, a recorded attempt or a case of a test table; and their answer. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { RecordedQuestion } from '../audit/replay.ts'
import { toRecordedQuestion } from '../audit/replay.ts'
import { readSecretFile } from '../config/secret-file.ts'
import { UsageError } from '../errors.ts'
import { buildPolicy, loadInputSchema } from '../policy/build.ts'
import { loadPolicySources } from '../policy/build-sources.ts'
import { evaluateQuestion } from '../policy/evaluate.ts'
import type { InputQuestion } from '../policy/input-document.ts'
import { InputRefused, parseInputDocument } from '../policy/input-document.ts'
import { confirmInput } from '../policy/input-mac.ts'
import { findCase } from '../policy/testing/find-case.ts'
import { deriveKey, parseSecret } from '../secret.ts'
import type { CommandArgs, DatabaseContext } from './context.ts'
import type { Streams } from './output.ts'
import type { Evaluated, Recorded } from './policy-eval-lines.ts'
import type { PolicyPlace } from './policy-place.ts'
import { withCompiler } from './policy-place.ts'

/** A question, and where it comes from. */
export interface Asked {
  readonly question: InputQuestion
  readonly recorded: Recorded | null
}

/** What is asked about; exactly one of them. */
export interface QuestionArgs extends CommandArgs {
  /** File with a policy input. */
  readonly input?: string | undefined
  /** Id of a row, or its beginning. */
  readonly row?: string | undefined
  /** A case of a test table. */
  readonly case?: string | undefined
}

/** Reads the question. Throws UsageError. */
export async function questionOf(args: QuestionArgs, place: PolicyPlace, streams?: Streams): Promise<Asked> {
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
async function askedOfRow(args: QuestionArgs, id: string, streams?: Streams): Promise<Asked> {
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

/** Builds the policies as they stand and asks them. Throws PolicyBuildError. */
export async function answer({ question, recorded }: Asked, place: PolicyPlace): Promise<Evaluated> {
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
