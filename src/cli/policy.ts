/** `gateway policy new|fmt|deps|explain|check|test|eval|build|verify|publish|history|rollback|diff`: what authors of policies work with. */
import type { CommandGroup } from './context.ts'
import { build, buildOptions } from './policy-build.ts'
import { check, checkOptions } from './policy-check.ts'
import { deps, depsOptions } from './policy-deps.ts'
import { diff, diffOptions } from './policy-diff.ts'
import { evalOptions, evaluate } from './policy-eval.ts'
import { explain, explainOptions } from './policy-explain.ts'
import { fmt, fmtOptions } from './policy-fmt.ts'
import { newOptions, newPolicy } from './policy-new.ts'
import {
  history,
  historyOptions,
  publish,
  publishOptions,
  rollback,
  rollbackOptions,
} from './policy-publish.ts'
import { test } from './policy-test.ts'
import { testOptions } from './policy-test-plan.ts'
import { verify, verifyOptions } from './policy-verify.ts'

/** What authors do before they check and test. */
const writing: CommandGroup = (group, streams) =>
  group
    .command('new <name>', 'Write a policy and its test from a template', newOptions, (args) =>
      newPolicy(args, streams),
    )
    .command(
      'fmt [dir]',
      'Format the Rego files of a folder; with --check, exit code 1 when one is not formatted',
      fmtOptions,
      (args) => fmt(args, streams),
    )
    .command('deps [subject]', 'What rules read, and which rules read a field', depsOptions, (args) =>
      deps(args, streams),
    )
    .command(
      'explain <subject>',
      'Say why the policies allow or deny a call, as `audit explain` does for what has happened',
      explainOptions,
      (args) => explain(args, streams),
    )

/** Adds the commands. */
export const policyCommands: CommandGroup = (parser, streams) =>
  parser.command('policy', 'Write and test policies', (group) =>
    writing(group, streams)
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
      .command(
        'build [dir]',
        'Build a bundle: policies as one file, signed if you like; exit code 1 when they do not build',
        buildOptions,
        (args) => build(args, streams),
      )
      .command(
        'verify <bundle>',
        'Check a bundle as the gateway does before it serves it; exit code 1 when it is refused',
        verifyOptions,
        (args) => verify(args, streams),
      )
      .command(
        'publish [policies]',
        'Store policies in the database for all gateways on `postgres:`; exit code 1 when they would be refused',
        publishOptions,
        (args) => publish(args, streams),
      )
      .command('history', 'List what was published', historyOptions, (args) => history(args, streams))
      .command('rollback <release>', 'Publish an earlier release again', rollbackOptions, (args) =>
        rollback(args, streams),
      )
      .command(
        'diff <before> <after>',
        'Compare two policies: rules, data, and what they decide; exit code 1 when they differ',
        diffOptions,
        (args) => diff(args, streams),
      )
      .demandCommand(
        1,
        'Name a command: new, fmt, deps, explain, check, test, eval, build, verify, publish, history, rollback or diff.',
      ),
  )
