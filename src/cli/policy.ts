/** `gateway policy check|test|eval`: what authors of policies work with. */
import type { CommandGroup } from './context.ts'
import { check, checkOptions } from './policy-check.ts'
import { evalOptions, evaluate } from './policy-eval.ts'
import { test } from './policy-test.ts'
import { testOptions } from './policy-test-plan.ts'

/** Adds the commands. */
export const policyCommands: CommandGroup = (parser, streams) =>
  parser.command('policy', 'Write and test policies', (group) =>
    group
      .command(
        'check [dir]',
        'Check policies as the gateway does before it serves them; exit code 1 when they are wrong',
        checkOptions,
        (args) => check(args, streams),
      )
      .command(
        'test [dir]',
        'Run the tests of policies on the module that serves; exit code 1 when one fails, 2 when there is none',
        testOptions,
        (args) => test(args, streams),
      )
      .command(
        'eval [input]',
        'Ask the policies about one call and show why they decide so',
        evalOptions,
        (args) => evaluate(args, streams),
      )
      .demandCommand(1, 'Name a command: check, test or eval.'),
  )
