/** `gateway help P101`: what a message about policies means, with an example that gets it and one that does not. */
import type { Argv } from 'yargs'
import { UsageError } from '../errors.ts'
import { nearestName } from '../nearest-name.ts'
import type { ExampleFolder } from '../policy/pages/page.ts'
import type { PagedKind } from '../policy/pages/pages.ts'
import { messagePages } from '../policy/pages/pages.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'
import { ALL_MESSAGES } from './spell-out-help.ts'
import { WIDTH, wrap } from './tree-lines.ts'

interface HelpArgs extends CommandArgs {
  readonly id: string
}

/** Adds `help`. */
export const helpCommands: CommandGroup = (parser, streams) =>
  parser.command('help [id]', 'What a message such as P101 means', options, (args) => help(args, streams))

function options(command: Argv<CommandArgs>): Argv<HelpArgs> {
  return command
    .positional('id', {
      type: 'string',
      default: ALL_MESSAGES,
      describe: 'Id of the message; without it, all of them',
    })
    .example('$0 help', 'All messages')
    .example('$0 help P101', 'What P101 means, and what to do')
    .example('$0 help P101 --json', 'For programs')
}

async function help({ id, ...args }: HelpArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const pages = messagePages()
  if (id === ALL_MESSAGES) {
    list(out, pages)
    return
  }
  const kind = pages.find((one) => one.id === id.toUpperCase() || one.title === id)
  if (kind === undefined) throw unknownId(id, pages)
  if (out.isJson) out.json(toDocument(kind))
  else for (const line of layoutPage(kind, out)) out.line(line)
}

function list(out: Output, pages: readonly PagedKind[]): void {
  if (out.isJson) {
    out.json(pages.map(({ id, title, severity }) => ({ id, title, severity })))
    return
  }
  out.table(
    ['id', 'message', 'kind', 'meaning'],
    pages.map(({ id, title, severity, page }) => [id, title, severity, page.what]),
  )
  out.note('One of them with examples: gateway help ID. The commands: gateway --help')
}

function unknownId(id: string, pages: readonly PagedKind[]): UsageError {
  const near = nearestName(
    id,
    pages.flatMap((page) => [page.id, page.title]),
  )
  const meant = near === null ? '' : ` Did you mean ${near}?`
  return new UsageError('not_found', `No message has the id ${id}.${meant} All of them: gateway help`)
}

function layoutPage({ id, title, severity, page }: PagedKind, out: Output): readonly string[] {
  const lines = [`${out.style('strong', `${id} ${title}`)}  ${severity}`, '']
  lines.push(...wrap(page.what, WIDTH), '', ...wrap(page.why, WIDTH))
  if (page.wrong !== null) lines.push('', out.style('bad', 'wrong'), ...layoutFolder(page.wrong))
  if (page.right !== null) lines.push('', out.style('good', 'right'), ...layoutFolder(page.right))
  return lines
}

function layoutFolder(folder: ExampleFolder): readonly string[] {
  return Object.entries(folder).flatMap(([file, text]) => [
    `  ${file}`,
    ...text
      .trimEnd()
      .split('\n')
      .map((line) => `      | ${line.replaceAll('\t', '    ')}`.trimEnd()),
  ])
}

function toDocument({ id, title, severity, page }: PagedKind): object {
  return { id, title, severity, ...page }
}
