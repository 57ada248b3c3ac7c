/** `gateway policy new|fmt|deps|explain|check|test|eval|build|verify|publish|history|rollback|diff`: what authors of policies work with. */
import type { CommandGroup } from './context.ts'

/** The commands, in the order of the help. Each is loaded when it is asked for: most of what others need takes long to load. */
const COMMANDS: Readonly<Record<string, () => Promise<CommandGroup>>> = {
  async new() {
    const { newOptions, newPolicy } = await import('./policy-new.ts')
    return (group, streams) =>
      group.command('new <name>', 'Write a policy and its test from a template', newOptions, (args) =>
        newPolicy(args, streams),
      )
  },
  async fmt() {
    const { fmt, fmtOptions } = await import('./policy-fmt.ts')
    return (group, streams) =>
      group.command(
        'fmt [dir]',
        'Format the Rego files of a folder; with --check, exit code 1 when one is not formatted',
        fmtOptions,
        (args) => fmt(args, streams),
      )
  },
  async deps() {
    const { deps, depsOptions } = await import('./policy-deps.ts')
    return (group, streams) =>
      group.command('deps [subject]', 'What rules read, and which rules read a field', depsOptions, (args) =>
        deps(args, streams),
      )
  },
  async explain() {
    const { explain, explainOptions } = await import('./policy-explain.ts')
    return (group, streams) =>
      group.command(
        'explain <subject>',
        'Say why the policies allow or deny a call, as `audit explain` does for what has happened',
        explainOptions,
        (args) => explain(args, streams),
      )
  },
  async check() {
    const { check, checkOptions } = await import('./policy-check.ts')
    return (group, streams) =>
      group.command(
        'check [dir]',
        'Check policies as the gateway does before it serves them; exit code 1 when they are wrong',
        checkOptions,
        (args) => check(args, streams),
      )
  },
  async test() {
    const [{ test }, { testOptions }] = await Promise.all([
      import('./policy-test.ts'),
      import('./policy-test-plan.ts'),
    ])
    return (group, streams) =>
      group.command(
        'test [dir]',
        'Run the tests of policies on the module that serves; exit code 1 when one fails, 2 when there is none',
        testOptions,
        (args) => test(args, streams),
      )
  },
  async eval() {
    const { evalOptions, evaluate } = await import('./policy-eval.ts')
    return (group, streams) =>
      group.command(
        'eval [input]',
        'Ask the policies about one call and show why they decide so',
        evalOptions,
        (args) => evaluate(args, streams),
      )
  },
  async build() {
    const { build, buildOptions } = await import('./policy-build.ts')
    return (group, streams) =>
      group.command(
        'build [dir]',
        'Build a bundle: policies as one file, signed if you like; exit code 1 when they do not build',
        buildOptions,
        (args) => build(args, streams),
      )
  },
  async verify() {
    const { verify, verifyOptions } = await import('./policy-verify.ts')
    return (group, streams) =>
      group.command(
        'verify <bundle>',
        'Check a bundle as the gateway does before it serves it; exit code 1 when it is refused',
        verifyOptions,
        (args) => verify(args, streams),
      )
  },
  async publish() {
    const { publish, publishOptions } = await import('./policy-publish.ts')
    return (group, streams) =>
      group.command(
        'publish [policies]',
        'Store policies in the database for all gateways on `postgres:`; exit code 1 when they would be refused',
        publishOptions,
        (args) => publish(args, streams),
      )
  },
  async history() {
    const { history, historyOptions } = await import('./policy-publish.ts')
    return (group, streams) =>
      group.command('history', 'List what was published', historyOptions, (args) => history(args, streams))
  },
  async rollback() {
    const { rollback, rollbackOptions } = await import('./policy-publish.ts')
    return (group, streams) =>
      group.command('rollback <release>', 'Publish an earlier release again', rollbackOptions, (args) =>
        rollback(args, streams),
      )
  },
  async diff() {
    const { diff, diffOptions } = await import('./policy-diff.ts')
    return (group, streams) =>
      group.command(
        'diff <before> <after>',
        'Compare two policies: rules, data, and what they decide; exit code 1 when they differ',
        diffOptions,
        (args) => diff(args, streams),
      )
  },
}

/** The command of that word; all of them for help, completion and words that are none. */
export async function loadPolicyCommands([word = '']: readonly string[]): Promise<CommandGroup> {
  const named = Object.hasOwn(COMMANDS, word) ? COMMANDS[word] : undefined
  const load = named === undefined ? Object.values(COMMANDS) : [named]
  const commands = await Promise.all(load.map((one) => one()))
  const names = Object.keys(COMMANDS)
  const ask = `Name a command: ${names.slice(0, -1).join(', ')} or ${names.at(-1)}.`
  return (parser, streams) =>
    parser.command('policy', 'Write and test policies', (group) =>
      commands.reduce((built, add) => add(built, streams), group).demandCommand(1, ask),
    )
}
