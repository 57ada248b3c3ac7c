/** Reads the command line, runs the command, turns whatever happened into an exit code. */
import type { Argv } from 'yargs'
import yargs from 'yargs'
import { UsageError } from '../errors.ts'
import { VERSION } from '../version.ts'
import { auditCommands } from './audit.ts'
import { configCommands } from './config.ts'
import { connectCommands } from './connect.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import { dbCommands } from './db.ts'
import { demoCommands } from './demo.ts'
import { doctorCommands } from './doctor.ts'
import { initCommands } from './init.ts'
import { keysCommands } from './keys.ts'
import { killCommands } from './kill.ts'
import type { Streams } from './output.ts'
import { createOutput, EXIT } from './output.ts'
import { policyCommands } from './policy.ts'
import { serveCommands } from './serve.ts'
import { toolsCommands } from './tools.ts'

const GROUPS: readonly CommandGroup[] = [
  serveCommands,
  initCommands,
  doctorCommands,
  connectCommands,
  keysCommands,
  killCommands,
  toolsCommands,
  auditCommands,
  policyCommands,
  configCommands,
  dbCommands,
  demoCommands,
]

/** Runs one command line (without `node` and the script). Resolves with the exit code and never rejects. */
export async function run(args: readonly string[], streams: Streams = process): Promise<number> {
  const out = createOutput({ json: args.includes('--json'), color: !args.includes('--no-color') }, streams)
  try {
    const parser = GROUPS.reduce((built, add) => add(built, streams), createParser(args))
    await parser.parseAsync()
    return EXIT.ok
  } catch (error) {
    return out.fail(error)
  }
}

function createParser(args: readonly string[]): Argv<CommandArgs> {
  return yargs([...args])
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
