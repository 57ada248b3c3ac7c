/** `gateway policy new`. */
import { stat } from 'node:fs/promises'
import type { Argv } from 'yargs'
import { UsageError } from '../errors.ts'
import type { PolicyTemplate } from '../setup/policy-templates.ts'
import { POLICY_TEMPLATES, writePolicy } from '../setup/policy-templates.ts'
import type { CommandArgs } from './context.ts'
import type { Streams } from './output.ts'
import { createOutput } from './output.ts'
import { findPolicies } from './policy-place.ts'
import { shellWord } from './shell-word.ts'
import { escapeText } from './text.ts'

/** Options of the command. */
export interface NewArgs extends CommandArgs {
  readonly name: string
  readonly template: PolicyTemplate
  readonly policies?: string | undefined
}

const NAMES = Object.keys(POLICY_TEMPLATES) as readonly PolicyTemplate[]

/** Describes the command line. */
export function newOptions(command: Argv<CommandArgs>): Argv<NewArgs> {
  const list = Object.entries(POLICY_TEMPLATES).map(([name, about]) => `  ${name.padEnd(18)}${about}`)
  return command
    .positional('name', {
      type: 'string',
      demandOption: true,
      describe: 'Its name, such as refunds-are-small; also the reason that it gives',
    })
    .option('template', {
      choices: NAMES,
      demandOption: true,
      describe: 'What it begins as',
      requiresArg: true,
    })
    .option('policies', {
      type: 'string',
      requiresArg: true,
      describe: 'Policies folder (default: the configured one)',
    })
    .example('$0 policy new refunds-are-small --template argument-bounds', 'A bound on an argument')
    .example('$0 policy new night --template business-hours --json', 'For programs')
    .epilogue(['Templates:', ...list].join('\n'))
}

/** Writes a policy and its test; both are right as they stand, and say what to put in their place. */
export async function newPolicy(args: NewArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const { folder } = findPolicies({ ...args, dir: args.policies })
  if ((await stat(folder).catch(() => null))?.isDirectory() !== true)
    throw new UsageError('usage', `${folder} is no folder. Make one with everything in it: gateway init`)
  const files = await writePolicy({ folder, name: args.name, template: args.template })
  const place = args.policies === undefined ? '' : ` ${shellWord(args.policies)}`
  const next = `gateway policy test${place} --run ${args.name}`
  if (out.isJson) {
    out.json({ folder, files, next })
    return
  }
  for (const file of files) out.line(`${out.style('good', 'created')}  ${escapeText(`${folder}/${file}`)}`)
  out.note('Names and numbers in it are examples: put yours in their place, in the test as well.')
  out.next(next)
}
