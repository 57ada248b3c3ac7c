/** `gateway kill tool|server|list` and `gateway unkill tool|server`: stop something now, on every gateway, whatever the policy says. */
import type { Argv } from 'yargs'
import type { Config } from '../config/types.ts'
import type { AppliedReport } from '../db/applied.ts'
import { waitUntilApplied } from '../db/applied.ts'
import type { KillEntry, KillTarget } from '../kill/store.ts'
import { kill, listKills, MAX_KILLS_LISTED, unkill } from '../kill/store.ts'
import { createUpstreams } from '../upstream/room.ts'
import { VERSION } from '../version.ts'
import { actor } from './actor.ts'
import { confirm } from './confirm.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import { withDatabase } from './context.ts'
import { parseDuration } from './key-arguments.ts'
import type { Output, Streams } from './output.ts'
import { shellWord } from './shell-word.ts'
import { escapeText } from './text.ts'

interface TargetArgs extends CommandArgs {
  readonly name: string
  readonly server?: string | undefined
  readonly yes: boolean
}

interface KillArgs extends TargetArgs {
  readonly reason: string
  readonly for?: string | undefined
}

interface UnkillArgs extends TargetArgs {
  readonly reason?: string | undefined
}

interface ListArgs extends CommandArgs {
  readonly all: boolean
}

type Kind = KillTarget['kind']

/** How long upstreams are asked whether they have the tool. The switch is in force by then. */
const ASK_MS = 3000

/** Adds the commands. */
export const killCommands: CommandGroup = (parser, streams) =>
  parser
    .command('kill', 'Stop a tool or a server now, on every gateway', (group) =>
      group
        .command('tool <name>', 'Stop a tool', killOptions('tool'), (args) => killOne('tool', args, streams))
        .command('server <name>', 'Stop a server', killOptions('server'), (args) =>
          killOne('server', args, streams),
        )
        .command('list', 'What is stopped, by whom and why', listOptions, (args) => list(args, streams))
        .demandCommand(1, 'Name what to stop: tool or server; or list.'),
    )
    .command('unkill', 'Let a stopped tool or server go on', (group) =>
      group
        .command('tool <name>', 'Let a tool go on', unkillOptions('tool'), (args) =>
          unkillOne('tool', args, streams),
        )
        .command('server <name>', 'Let a server go on', unkillOptions('server'), (args) =>
          unkillOne('server', args, streams),
        )
        .demandCommand(1, 'Name what shall go on: tool or server.'),
    )

function targetOptions(kind: Kind, command: Argv<CommandArgs>): Argv<TargetArgs> {
  const named = command
    .positional('name', { type: 'string', demandOption: true, describe: `Name of the ${kind}` })
    .option('yes', { alias: 'y', type: 'boolean', default: false, describe: 'Do not ask' })
  if (kind === 'server') return named
  return named.option('server', {
    type: 'string',
    describe: 'Only on this server (default: on every one)',
    requiresArg: true,
  })
}

function killOptions(kind: Kind): (command: Argv<CommandArgs>) => Argv<KillArgs> {
  return (command) =>
    targetOptions(kind, command)
      .option('reason', {
        type: 'string',
        demandOption: true,
        describe: 'Why; it is kept, and stands in the rows of refused calls',
        requiresArg: true,
      })
      .option('for', {
        type: 'string',
        describe: 'End by itself after 30m, 1h, 2d (default: until unkill)',
        requiresArg: true,
      })
      .example(`$0 kill ${kind} ${EXAMPLES[kind]} --reason "incident 4711" --for 1h`, 'For one hour')
}

function unkillOptions(kind: Kind): (command: Argv<CommandArgs>) => Argv<UnkillArgs> {
  return (command) =>
    targetOptions(kind, command)
      .option('reason', { type: 'string', describe: 'Why; it is kept', requiresArg: true })
      .example(`$0 unkill ${kind} ${EXAMPLES[kind]} --yes`, 'From the next request on')
}

const EXAMPLES: Readonly<Record<Kind, string>> = { tool: 'delete_repo --server github', server: 'github' }

function listOptions(command: Argv<CommandArgs>): Argv<ListArgs> {
  return command
    .option('all', {
      type: 'boolean',
      default: false,
      describe: 'Everything that was ever done, newest first',
    })
    .example('$0 kill list --all', 'Also what has ended')
}

async function killOne(kind: Kind, args: KillArgs, streams?: Streams): Promise<void> {
  const target = toTarget(kind, args)
  const forMs = args.for === undefined ? null : parseDuration(args.for)
  await withDatabase(
    args,
    async ({ out, pools, config }) => {
      if (!args.yes) await confirm(`Stop ${title(target)} for everybody? [y/N] `, streams)
      const order = { target, reason: args.reason, forMs, actor: actor() }
      const { seq, until } = await kill(pools.general, order)
      const report = await waitUntilApplied(pools.general, seq)
      const known = await isKnown(config, target)
      if (out.isJson) {
        out.json({ ...targetJson(target), action: 'kill', until, actor: order.actor, known, ...report })
        return
      }
      out.line(`killed ${title(target)}${until === null ? '' : ` until ${until.toISOString()}`}`)
      tellUnknown(out, target, known)
      tellApplied(out, report)
      out.next(`gateway unkill ${kind} ${shellWord(target.name)}${serverOption(target)}`)
    },
    streams,
  )
}

async function unkillOne(kind: Kind, args: UnkillArgs, streams?: Streams): Promise<void> {
  const target = toTarget(kind, args)
  await withDatabase(
    args,
    async ({ out, pools }) => {
      if (!args.yes) await confirm(`Let ${title(target)} go on for everybody? [y/N] `, streams)
      const by = actor()
      const seq = await unkill(pools.general, { target, reason: args.reason ?? null, actor: by })
      const report: AppliedReport =
        seq === null ? { applied: [], pending: [] } : await waitUntilApplied(pools.general, seq)
      const others = (await listKills(pools.general, { includeEnded: false })).filter(
        (entry) => entry.target.name === target.name,
      )
      if (out.isJson) {
        const still = others.map((entry) => targetJson(entry.target))
        out.json({
          ...{ ...targetJson(target), action: 'unkill', was_killed: seq !== null, actor: by },
          ...{ still_killed: still, ...report },
        })
        return
      }
      if (seq === null) out.note(`${title(target)} is not stopped.`)
      else out.line(`unkilled ${title(target)}`)
      for (const entry of others) out.note(`Still stopped: ${title(entry.target)}.`)
      tellApplied(out, report)
    },
    streams,
  )
}

async function list(args: ListArgs, streams?: Streams): Promise<void> {
  await withDatabase(
    args,
    async ({ out, pools }) => {
      const entries = await listKills(pools.general, { includeEnded: args.all })
      if (out.isJson) {
        out.json(entries.map(toJson))
        return
      }
      if (entries.length === 0) {
        out.note(args.all ? 'Nothing was ever stopped.' : 'Nothing is stopped (--all shows what was).')
        return
      }
      const headers = ['at', 'action', 'kind', 'name', 'server', 'state', 'until', 'actor', 'reason']
      out.table(headers, entries.map(toRow))
      if (entries.length === MAX_KILLS_LISTED) out.note(`Only the newest ${MAX_KILLS_LISTED} are shown.`)
    },
    streams,
  )
}

function toTarget(kind: Kind, { name, server }: TargetArgs): KillTarget {
  return kind === 'server' ? { kind, name } : { kind, name, server: server ?? null }
}

/** Whether there is such a thing behind the configured gateway; null = it could not be found out. */
async function isKnown(config: Config, target: KillTarget): Promise<boolean | null> {
  const servers = Object.keys(config.upstreams)
  if (target.kind === 'server') return servers.includes(target.name)
  const asked = target.server === null ? servers : servers.filter((name) => name === target.server)
  if (asked.length === 0) return false
  const answers = await askForTool(config, asked, target.name)
  if (answers.includes(true)) return true
  return answers.includes(null) ? null : false
}

async function askForTool(config: Config, servers: readonly string[], tool: string) {
  const upstreams = createUpstreams({
    upstreams: config.upstreams,
    version: VERSION,
    clock: { nowMs: Date.now, monotonicMs: () => performance.now() },
    random: Math.random,
    log: { info: () => undefined, warn: () => undefined },
  })
  const ask = async (server: string): Promise<boolean | null> => {
    try {
      return (await upstreams.findTool(server, tool)) !== null
    } catch {
      return null
    }
  }
  const timer = new AbortController()
  try {
    return await Promise.all(
      servers.map((server) => Promise.race([ask(server), after(ASK_MS, timer.signal)])),
    )
  } finally {
    timer.abort()
    await upstreams.close()
  }
}

/** null after that time; not before the signal. */
function after(ms: number, signal: AbortSignal): Promise<null> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(null), ms)
    signal.addEventListener('abort', () => clearTimeout(timer), { once: true })
  })
}

function tellUnknown(out: Output, target: KillTarget, known: boolean | null): void {
  if (known === true) return
  if (target.kind === 'server') {
    out.note(
      `No server of that name is configured here: check the spelling. The switch holds for one that comes.`,
    )
    return
  }
  const offers =
    target.server === null ? 'No server offers a' : `Server ${escapeText(target.server)} offers no`
  out.note(
    known === null
      ? 'Whether there is such a tool could not be found out: not every server could be asked. Check the spelling.'
      : `${offers} tool of that name now: check the spelling. The switch holds for one that comes.`,
  )
}

function tellApplied(out: Output, { applied, pending }: AppliedReport): void {
  if (applied.length > 0) out.note(`In force on ${applied.map(escapeText).join(', ')}.`)
  if (pending.length === 0) return
  out.note(
    `Not confirmed yet by ${pending.map(escapeText).join(', ')}. A gateway that hears nothing from the database asks ` +
      'it about every call after auth.max_stale_s seconds, and refuses when it cannot.',
  )
}

function title(target: KillTarget): string {
  const on = target.kind === 'tool' && target.server !== null ? ` on ${escapeText(target.server)}` : ''
  return `${target.kind} ${escapeText(target.name)}${on}`
}

function serverOption(target: KillTarget): string {
  return target.kind === 'tool' && target.server !== null ? ` --server ${shellWord(target.server)}` : ''
}

function stateOf(entry: KillEntry): string {
  if (entry.action === 'unkill') return '-'
  return entry.isActive ? 'killed' : 'ended'
}

function toRow(entry: KillEntry) {
  const { target, action, at, until, actor: by, reason } = entry
  const server = target.kind === 'tool' ? target.server : null
  return [at, action, target.kind, target.name, server, stateOf(entry), until, by, reason] as const
}

function targetJson(target: KillTarget): Record<string, unknown> {
  return { kind: target.kind, name: target.name, server: target.kind === 'tool' ? target.server : null }
}

function toJson(entry: KillEntry): Record<string, unknown> {
  return {
    ...targetJson(entry.target),
    action: entry.action,
    is_active: entry.isActive,
    reason: entry.reason,
    at: entry.at,
    until: entry.until,
    actor: entry.actor,
    db_user: entry.dbUser,
  }
}
