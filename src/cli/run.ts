/** Reads the command line, runs the command, turns whatever happened into an exit code. */
import type { Argv } from 'yargs'
import yargs from 'yargs'
import { UsageError } from '../errors.ts'
import { VERSION } from '../version.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import type { Streams } from './output.ts'
import { createOutput, EXIT } from './output.ts'
import { spellOutHelp } from './spell-out-help.ts'

/** Commands by their first words. Each is loaded when it is asked for: loading everything takes longer than most commands. */
const GROUPS: readonly {
  readonly words: readonly string[]
  load(rest: readonly string[]): Promise<CommandGroup>
}[] = [
  { words: ['serve'], load: async () => (await import('./serve.ts')).serveCommands },
  { words: ['init'], load: async () => (await import('./init.ts')).initCommands },
  { words: ['doctor'], load: async () => (await import('./doctor.ts')).doctorCommands },
  { words: ['connect'], load: async () => (await import('./connect.ts')).connectCommands },
  { words: ['keys'], load: async () => (await import('./keys.ts')).keysCommands },
  { words: ['kill', 'unkill'], load: async () => (await import('./kill.ts')).killCommands },
  { words: ['tools'], load: async () => (await import('./tools.ts')).toolsCommands },
  { words: ['audit'], load: async () => (await import('./audit.ts')).auditCommands },
  {
    words: ['policy'],
    load: async (rest) => (await import('./policy.ts')).loadPolicyCommands(rest),
  },
  { words: ['config'], load: async () => (await import('./config.ts')).configCommands },
  { words: ['db'], load: async () => (await import('./db.ts')).dbCommands },
  { words: ['help'], load: async () => (await import('./help.ts')).helpCommands },
  { words: ['demo-keys'], load: async () => (await import('./demo.ts')).demoCommands },
]

/** The group of the first word; all of them for help, completion and words that are none. */
async function loadGroups([first = '', ...rest]: readonly string[]): Promise<readonly CommandGroup[]> {
  const named = GROUPS.filter(({ words }) => words.includes(first))
  return await Promise.all((named.length > 0 ? named : GROUPS).map(({ load }) => load(rest)))
}

/** Runs one command line (without `node` and the script). Resolves with the exit code and never rejects. */
export async function run(args: readonly string[], streams: Streams = process): Promise<number> {
  const out = createOutput({ json: args.includes('--json'), color: !args.includes('--no-color') }, streams)
  try {
    const groups = await loadGroups(args)
    const parser = groups.reduce((built, add) => add(built, streams), createParser())
    // What the parser itself says (help, version, completion) goes where everything else goes.
    await parser.parseAsync(spellOutHelp(args), {}, (_error, _argv, text) => {
      if (text !== '') streams.stdout.write(`${text}\n`)
    })
    return EXIT.ok
  } catch (error) {
    return out.fail(error)
  }
}

function createParser(): Argv<CommandArgs> {
  return yargs()
    .scriptName('gateway')
    .usage(
      '$0 <command>\n\nA policy gateway for MCP servers: decides every call by Rego policies and keeps the trace.',
    )
    .option('config', {
      type: 'string',
      describe: 'Configuration file (default ./gateway.yaml)',
      requiresArg: true,
    })
    .option('json', { type: 'boolean', describe: 'Output for programs' })
    .option('color', { type: 'boolean', describe: 'Colours; --no-color for none' })
    .example('$0 serve', 'Start the gateway with ./gateway.yaml')
    .example('$0 keys create --name ada --role developer', 'Make a key; it is shown once')
    .example('$0 audit explain ID', 'Why was this call allowed or denied?')
    .demandCommand(1, 'Name a command.')
    .recommendCommands()
    .strict()
    .completion('completion', 'Print a completion script for your shell')
    .help('help')
    .alias('help', 'h')
    .version(VERSION)
    .wrap(100)
    .exitProcess(false)
    .fail((message, error) => {
      // Its own complaints come with an error of its own, too; what a command throws is another matter.
      if (error instanceof Error && error.name !== 'YError') throw error
      throw new UsageError('usage', `${message}\nSee: gateway --help`)
    })
}
