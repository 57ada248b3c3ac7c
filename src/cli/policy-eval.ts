/** `gateway policy eval`: one question to the module that serves, and everything it says about it. */
import { writeFile } from 'node:fs/promises'
import type { Argv } from 'yargs'
import { UsageError } from '../errors.ts'
import { parseExact, stringifyExact } from '../json/exact.ts'
import type { CommandArgs } from './context.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'
import { showRefusal } from './policy-check.ts'
import type { Evaluated } from './policy-eval-lines.ts'
import { layoutEvaluation, toEvaluationDocument } from './policy-eval-lines.ts'
import { findPolicies } from './policy-place.ts'
import type { QuestionArgs } from './policy-question.ts'
import { answer, questionOf } from './policy-question.ts'

/** Options of the command. */
export interface EvalArgs extends QuestionArgs {
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
