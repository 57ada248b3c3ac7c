/** `gateway policy explain`: what the policies of a folder say about a call, in the words of `audit explain`. */
import { stat } from 'node:fs/promises'
import type { Argv } from 'yargs'
import { UsageError } from '../errors.ts'
import { stringifyExact } from '../json/exact.ts'
import type { CommandArgs } from './context.ts'
import type { Streams } from './output.ts'
import { createOutput } from './output.ts'
import { showRefusal } from './policy-check.ts'
import { explainAnswer, layoutAnswer, toAnswerDocument } from './policy-explain-lines.ts'
import { findPolicies } from './policy-place.ts'
import type { QuestionArgs } from './policy-question.ts'
import { answer, questionOf } from './policy-question.ts'

/** Options of the command. */
export interface ExplainArgs extends CommandArgs {
  readonly subject: string
  readonly policies?: string | undefined
  readonly source: boolean
  readonly full: boolean
}

/** Describes the command line. */
export function explainOptions(command: Argv<CommandArgs>): Argv<ExplainArgs> {
  return command
    .positional('subject', {
      type: 'string',
      demandOption: true,
      describe:
        'File with a policy input, id of a recorded attempt, or case of a test table (cases/FILE:LINE)',
    })
    .option('policies', {
      type: 'string',
      requiresArg: true,
      describe: 'Policies folder (default: the configured one)',
    })
    .option('source', { type: 'boolean', default: false, describe: 'With the source lines' })
    .option('full', { type: 'boolean', default: false, describe: 'All rules to the last line, no value cut' })
    .example('$0 policy explain input.json', 'Why would this call be allowed or denied?')
    .example('$0 policy explain 019a8f2c', 'Why would a recorded attempt be, by the policies of today?')
    .example('$0 policy explain cases/tools.yaml:41 --json', 'A test case, for programs')
}

/** Explains; exit code 0 whatever the decision is. */
export async function explain(args: ExplainArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const place = findPolicies({ ...args, dir: args.policies })
  const asked = await questionOf({ ...args, ...(await kindOf(args.subject)) }, place, streams)
  const evaluated = await out
    .progress('evaluating', () => answer(asked, place))
    .catch((error: unknown) => showRefusal(out, error, place.folder, 'Nothing was evaluated.'))
  const { source, full } = args
  const explained = explainAnswer(evaluated, { source, full: full || out.isJson })
  if (out.isJson) out.line(stringifyExact(toAnswerDocument(evaluated, explained)))
  else for (const line of layoutAnswer(evaluated, explained, { out, source, full })) out.line(line)
}

/** A file that is there is meant before anything else. */
async function kindOf(subject: string): Promise<Pick<QuestionArgs, 'input' | 'row' | 'case'>> {
  if ((await stat(subject).catch(() => null)) !== null) return { input: subject }
  if (/\.ya?ml:\d/.test(subject)) return { case: subject }
  if (/^[0-9a-f-]{4,36}$/i.test(subject)) return { row: subject }
  throw new UsageError(
    'not_found',
    `${subject} is no file, no id of a row, and no case: those are called cases/FILE:LINE.`,
  )
}
