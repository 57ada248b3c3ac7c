/** `gateway init`: a folder from which an organisation runs its gateway. */
import { relative, resolve } from 'node:path'
import type { Argv } from 'yargs'
import { createWorkingFolder } from '../setup/working-folder.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'
import { shellWord } from './shell-word.ts'
import { escapeText } from './text.ts'

interface InitArgs extends CommandArgs {
  readonly dir: string
  readonly server: string
  readonly url: string
}

/** Adds `init`. */
export const initCommands: CommandGroup = (parser, streams) =>
  parser.command('init [dir]', 'Make a folder for a gateway of your own', options, (args) =>
    init(args, streams),
  )

function options(command: Argv<CommandArgs>): Argv<InitArgs> {
  return command
    .positional('dir', {
      type: 'string',
      default: '.',
      describe: 'The folder; nothing in it is written over',
    })
    .option('server', {
      type: 'string',
      default: 'example',
      describe: 'Name of your first MCP server',
      requiresArg: true,
    })
    .option('url', {
      type: 'string',
      default: 'http://127.0.0.1:9000/mcp',
      describe: 'Its address',
      requiresArg: true,
    })
    .example('$0 init mcp', 'In a folder mcp')
    .example('$0 init mcp --server github --url https://mcp.example.com/github', 'With your first server')
    .example('$0 init --json', 'Here, for programs')
}

async function init(args: InitArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const folder = resolve(args.dir)
  const files = await createWorkingFolder({ folder, server: args.server, url: args.url })
  const next = 'gateway keys create --name admin --role admin --scope gateway:admin --expires 90d'
  if (out.isJson) {
    out.json({ folder, files, next })
    return
  }
  out.line(`${out.style('good', 'created')}  ${escapeText(folder)}`)
  for (const [name, about] of OVERVIEW) out.line(`  ${name.padEnd(16)}${about}`)
  tellNext(out, folder, args.server, next)
}

const OVERVIEW: readonly (readonly [name: string, about: string])[] = [
  ['gateway.yaml', 'where it listens, and which MCP servers stand behind it'],
  ['policies/', 'who may do what; tests in policies/cases/'],
  ['schemas/', 'what editors check against while you type; .vscode/ and .regal/ tell them so'],
  ['secret', 'readable for you only; not for version control'],
  ['compose.yaml', 'the same gateway with a PostgreSQL in containers; its secrets in database/'],
  ['README.md', 'what to do with all this'],
]

function tellNext(out: Output, folder: string, server: string, next: string): void {
  out.note(
    `List the tools of ${server} in policies/servers/${server}/data.yaml: what is not listed is for nobody.`,
  )
  const from = relative(process.cwd(), folder)
  out.next(from === '' ? next : `cd ${shellWord(from.startsWith('..') ? folder : from)} && ${next}`)
}
