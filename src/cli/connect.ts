/** `gateway connect`: what a client needs to know, printed or merged into its file. Never with a key in it. */
import { resolve } from 'node:path'
import type { Argv } from 'yargs'
import { isWildcard, listenText } from '../config/listen.ts'
import { loadConfig, processEnvironment } from '../config/load.ts'
import type { Config } from '../config/types.ts'
import { UsageError } from '../errors.ts'
import { nearestName } from '../nearest-name.ts'
import type { Merged } from '../setup/client-file.ts'
import { mergeIntoFile, toSnippet } from '../setup/client-file.ts'
import type { ClientName, ClientPlan, ClientServer } from '../setup/clients.ts'
import { CLIENTS, toClientPlan } from '../setup/clients.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'
import { shellWord } from './shell-word.ts'
import { escapeText } from './text.ts'

interface ConnectArgs extends CommandArgs {
  readonly client: string
  readonly server?: string | undefined
  readonly merged: boolean
  readonly as?: string | undefined
  readonly url?: string | undefined
  readonly folder: string
  readonly write: boolean
}

/** Adds `connect`. */
export const connectCommands: CommandGroup = (parser, streams) =>
  parser.command('connect <client>', 'Point an MCP client at the gateway', options, (args) =>
    connect(args, streams),
  )

function options(command: Argv<CommandArgs>): Argv<ConnectArgs> {
  return command
    .positional('client', { type: 'string', demandOption: true, describe: CLIENTS.join(', ') })
    .option('server', {
      type: 'string',
      describe: 'Only this upstream (default: all)',
      requiresArg: true,
    })
    .option('merged', {
      type: 'boolean',
      default: false,
      describe: 'One entry for all upstreams, under /mcp',
    })
    .option('as', { type: 'string', describe: 'What the client shall call it', requiresArg: true })
    .option('url', {
      type: 'string',
      describe: 'Where clients reach the gateway (default: public_url, else listen)',
      requiresArg: true,
    })
    .option('folder', {
      type: 'string',
      default: '.',
      describe: 'Folder of the project, for clients that keep their file there',
      requiresArg: true,
    })
    .option('write', { type: 'boolean', default: false, describe: 'Merge it into the file of the client' })
    .example('$0 connect claude-code', 'Show the entry for .mcp.json')
    .example('$0 connect vscode --server github --write', 'Add one upstream to .vscode/mcp.json')
    .example('$0 connect cursor --merged --as company', 'All upstreams as one server')
    .example('$0 connect codex --url https://mcp.example.com --server github', 'Without a configuration')
}

async function connect(args: ConnectArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const client = parseClient(args.client)
  const servers = toServers(args)
  const plan = toClientPlan(client, servers, {
    project: resolve(args.folder),
    environment: processEnvironment(),
  })
  const merged = args.write ? await mergeIntoFile(plan) : null
  if (out.isJson) out.json({ client, file: plan.file, servers, key: plan.key, ...outcome(plan, merged) })
  else show(out, plan, merged)
}

function outcome(plan: ClientPlan, merged: Merged | null): Record<string, unknown> {
  return { snippet: toSnippet(plan), written: merged !== null, ...(merged ?? { added: [], unchanged: [] }) }
}

function parseClient(name: string): ClientName {
  const known = CLIENTS.find((client) => client === name)
  if (known !== undefined) return known
  const meant = nearestName(name, CLIENTS)
  const hint = meant === null ? `There are: ${CLIENTS.join(', ')}.` : `Did you mean ${meant}?`
  throw new UsageError('usage', `"${name}" is no client that is known. ${hint}`)
}

function toServers(args: ConnectArgs): readonly ClientServer[] {
  if (args.merged) return [mergedServer(args)]
  const config =
    args.url !== undefined && args.server !== undefined ? null : loadConfig({ file: args.config }).config
  const names = args.server === undefined ? Object.keys(config?.upstreams ?? {}) : [args.server]
  refuseUnknown(names, config)
  const base = args.url === undefined ? addressOf(config) : parseBase(args.url)
  const [only] = names
  if (args.as === undefined) return names.map((name) => ({ name, url: `${base}/mcp/${name}` }))
  if (only === undefined || names.length > 1) {
    throw new UsageError('usage', '--as names one server: choose it with --server.')
  }
  return [{ name: parseName('as', args.as), url: `${base}/mcp/${only}` }]
}

/** What clients call the merged mount unless they are told otherwise. */
const MERGED_NAME = 'gateway'

function mergedServer(args: ConnectArgs): ClientServer {
  if (args.server !== undefined)
    throw new UsageError('usage', '--merged is all upstreams, --server is one: choose.')
  const config = args.url === undefined ? loadConfig({ file: args.config }).config : null
  if (config?.federation.enabled === false)
    throw new UsageError('usage', '--merged: there is no /mcp here; federation.enabled is false.')
  const base = args.url === undefined ? addressOf(config) : parseBase(args.url)
  return { name: args.as === undefined ? MERGED_NAME : parseName('as', args.as), url: `${base}/mcp` }
}

function refuseUnknown(names: readonly string[], config: Config | null): void {
  const [name = ''] = names
  if (config === null) {
    parseName('server', name)
    return
  }
  const known = Object.keys(config.upstreams)
  if (names.every((one) => known.includes(one))) return
  const meant = nearestName(name, known)
  const hint = meant === null ? `There are: ${known.join(', ')}.` : `Did you mean ${meant}?`
  throw new UsageError('not_found', `No upstream is named "${name}". ${hint}`)
}

/** A name that stands in JSON, TOML and a path as it is. */
function parseName(option: string, text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/.test(text)) return text
  throw new UsageError('usage', `--${option}: letters, digits, dashes and underscores, at most 63.`)
}

function addressOf(config: Config | null): string {
  if (config === null) throw new UsageError('usage', 'Name where clients reach the gateway: --url.')
  if (config.publicUrl !== null) return parseBase(config.publicUrl)
  const scheme = config.tls === null ? 'http' : 'https'
  if (config.listen.port !== 0 && !isWildcard(config.listen.host)) {
    return `${scheme}://${listenText(config.listen)}`
  }
  throw new UsageError(
    'usage',
    'The configuration does not say where clients reach the gateway: set public_url, or name it with --url.',
  )
}

function parseBase(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null
  const isFit = url !== null && /^https?:$/.test(url.protocol) && url.username === '' && url.password === ''
  if (isFit && url.search === '' && url.hash === '') return url.href.replace(/\/+$/, '')
  throw new UsageError(
    'usage',
    '--url: an http or https address such as https://mcp.example.com, without a key in it.',
  )
}

function show(out: Output, plan: ClientPlan, merged: Merged | null): void {
  if (merged === null) {
    for (const line of toSnippet(plan).trimEnd().split('\n')) out.line(line)
    out.note(`It belongs into ${escapeText(plan.file)}; --write merges it.`)
  } else {
    if (merged.added.length > 0) out.line(`added ${merged.added.join(', ')} to ${escapeText(plan.file)}`)
    if (merged.unchanged.length > 0) out.line(`unchanged ${merged.unchanged.join(', ')}: there already`)
    if (merged.added.length === 0) return
  }
  if (plan.note !== null) out.note(plan.note)
  tellKey(out, plan)
}

/** The key itself is nowhere: how the client gets it. */
function tellKey(out: Output, { key }: ClientPlan): void {
  if (key.from === 'prompt') {
    out.note('It asks for the key when it connects. Make one: gateway keys create --name NAME --role ROLE')
    return
  }
  if (key.from === 'environment') {
    out.note(`It takes the key from the variable ${key.name}, so start it from a shell that has it.`)
    out.next(`export ${key.name}="$(gateway keys create --name NAME --role ROLE)"`)
    return
  }
  const file = shellWord(key.name)
  out.note(`It takes the key from ${escapeText(key.name)}, a file for your eyes only.`)
  out.next(
    `(umask 077; mkdir -p "$(dirname ${file})"; printf 'Authorization: Bearer %s\\n' "$(gateway keys create --name NAME --role ROLE)" > ${file})`,
  )
}
