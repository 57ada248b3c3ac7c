/** `gateway tools list`: what the configured upstreams offer, and what one principal may use of it. */
import type { Argv } from 'yargs'
import { checkKeySettings, KEY_KINDS } from '../auth/key-settings.ts'
import type { ApiKey } from '../auth/key-store.ts'
import { findKey, keyState } from '../auth/key-store.ts'
import { policyLimits } from '../compose/policy-settings.ts'
import { policySourceKind, readPolicies, readPublishedPolicies } from '../compose/policy-source.ts'
import { loadConfig } from '../config/load.ts'
import type { Config } from '../config/types.ts'
import { GatewayError, UsageError } from '../errors.ts'
import type { Principal } from '../gateway/types.ts'
import type { ActiveKill } from '../kill/store.ts'
import { loadActiveKills } from '../kill/store.ts'
import type { ReadPolicy } from '../policy/reload.ts'
import type { KnownTool, UpstreamState, Upstreams } from '../upstream/room.ts'
import { createUpstreams } from '../upstream/room.ts'
import { VERSION } from '../version.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import { withDatabase } from './context.ts'
import { parseClaims } from './key-arguments.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'
import { toPolicyTrouble } from './policy-trouble.ts'
import type { Cell } from './table.ts'
import { escapeText } from './text.ts'
import type { ToolVerdict, Verdicts } from './tool-verdicts.ts'
import { judgeTools } from './tool-verdicts.ts'

interface ListArgs extends CommandArgs {
  readonly server: readonly string[]
  readonly as?: string | undefined
  readonly role: readonly string[]
  readonly kind?: string | undefined
  readonly tenant?: string | undefined
  readonly team: readonly string[]
  readonly scope: readonly string[]
  readonly claim: readonly string[]
}

/** Adds the commands. */
export const toolsCommands: CommandGroup = (parser, streams) =>
  parser.command('tools', 'Look at the tools behind the gateway', (group) =>
    group
      .command(
        'list',
        'Ask the upstreams for their tools; with --as or --role, what the policy says about each',
        listOptions,
        (args) => list(args, streams),
      )
      .demandCommand(1, 'Name a command: list.'),
  )

function listOptions(command: Argv<CommandArgs>): Argv<ListArgs> {
  const many = { type: 'string', array: true, default: [], requiresArg: true } as const
  return command
    .option('server', { ...many, describe: 'Only this upstream; may be repeated' })
    .option('as', { type: 'string', requiresArg: true, describe: 'As the holder of this key (its id)' })
    .option('role', { ...many, describe: 'As somebody with this role; may be repeated' })
    .option('kind', { choices: KEY_KINDS, describe: '.. of this kind (default: agent)' })
    .option('tenant', { type: 'string', requiresArg: true, describe: '.. of this tenant' })
    .option('team', { ...many, describe: '.. in this team; may be repeated' })
    .option('scope', { ...many, describe: '.. with this scope; may be repeated' })
    .option('claim', { ...many, describe: '.. with NAME=VALUE, as for `keys create`; may be repeated' })
    .example('$0 tools list', 'All tools, and whether their arguments can be checked')
    .example('$0 tools list --as k3v9', 'What the holder of that key may use, and which rule says so')
    .example('$0 tools list --server support --role developer --tenant acme --json', 'For programs')
}

/** What was learnt of one upstream. */
interface Listing {
  readonly state: UpstreamState
  /** Why its tools could not be read; null = they were. */
  readonly error: string | null
  readonly tools: readonly ListedTool[]
  readonly unusable: readonly { readonly name: string; readonly reason: string }[]
}

interface ListedTool {
  readonly tool: KnownTool
  /** null when nobody was named. */
  readonly verdict: ToolVerdict | null
  readonly isKilled: boolean
}

/** Who the verdicts are for. `kills` null = not looked at. */
interface Asker {
  readonly principal: Principal
  readonly kills: readonly ActiveKill[] | null
}

async function list(args: ListArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const { config } = loadConfig({ file: args.config })
  const servers = chosenServers(config, args.server)
  const asker = await findAsker(args, out, streams)
  const verdicts = asker === null ? null : await openVerdicts(args, config, asker.principal, out)
  const upstreams = openUpstreams(config, servers)
  try {
    const listings = await out.progress('asking the upstreams', () =>
      Promise.all(servers.map((server) => readListing(upstreams, server, verdicts, asker?.kills ?? []))),
    )
    if (out.isJson) out.json(listings.map(toJson))
    else show(out, listings, asker)
    refuseUnread(listings)
  } finally {
    await upstreams.close()
  }
}

function chosenServers({ upstreams }: Config, asked: readonly string[]): readonly string[] {
  const known = Object.keys(upstreams)
  const unknown = asked.find((name) => !known.includes(name))
  if (unknown === undefined) return asked.length === 0 ? known : [...new Set(asked)]
  throw new UsageError('not_found', `No upstream is named ${unknown}. Configured: ${known.join(', ')}.`)
}

/** null when nobody is named. */
async function findAsker(args: ListArgs, out: Output, streams?: Streams): Promise<Asker | null> {
  const { as, role, kind, tenant, team, scope, claim } = args
  const isDescribed = [role, team, scope, claim].some((values) => values.length > 0)
  if (as === undefined) {
    if (!isDescribed && tenant === undefined && kind === undefined) return null
    return { principal: describedPrincipal(args), kills: null }
  }
  if (isDescribed || tenant !== undefined || kind !== undefined)
    throw new UsageError(
      'usage',
      '--as names a key with all that belongs to it: leave the other options out.',
    )
  return await withDatabase(
    args,
    async ({ pools }) => {
      const key = await findKey(pools.general, as)
      const state = keyState(key, Date.now())
      if (state !== 'active') out.note(`This key is ${state}: its holder is not let in at all.`)
      return { principal: keyPrincipal(key), kills: await loadActiveKills(pools.general) }
    },
    streams,
  )
}

function keyPrincipal({ id, name, kind, roles, tenant, teams, scopes, claims }: ApiKey): Principal {
  const principal = { id: name ?? id, kind, roles, tenant, teams, scopes, claims }
  return { ...principal, authMethod: 'api_key', apiKeyId: id }
}

/** Throws UsageError for what no key could have. */
function describedPrincipal({ role, kind, tenant, team, scope, claim }: ListArgs): Principal {
  const settings = {
    name: null,
    kind: KEY_KINDS.find((one) => one === kind) ?? 'agent',
    roles: role,
    tenant: tenant ?? null,
    teams: team,
    scopes: scope,
    claims: parseClaims(claim),
    expiresAt: null,
  }
  checkKeySettings(settings, Date.now())
  const { name: _name, expiresAt: _expiresAt, ...rest } = settings
  return { id: 'somebody', ...rest, authMethod: 'api_key', apiKeyId: null }
}

/** Throws UsageError `policy` for policies that would not be served. */
async function openVerdicts(
  args: CommandArgs,
  config: Config,
  principal: Principal,
  out: Output,
): Promise<Verdicts> {
  try {
    const { policy } = await out.progress('reading the policies', (progress) =>
      readServed(args, config, progress.step),
    )
    return { policy, limits: policyLimits(config), principal, nowMs: Date.now() }
  } catch (error) {
    throw toPolicyTrouble(error)
  }
}

async function readServed(
  args: CommandArgs,
  config: Config,
  onProgress: (text: string) => void,
): Promise<ReadPolicy> {
  if ((await policySourceKind(config)) !== 'database') return await readPolicies(config, onProgress)
  return await withDatabase(args, ({ pools }) => readPublishedPolicies(config, pools.general))
}

/** The named upstreams, to be asked once: nothing probes them. */
export function openUpstreams(config: Config, servers: readonly string[]): Upstreams {
  const asked = servers.flatMap((name) => {
    const settings = config.upstreams[name]
    return settings === undefined ? [] : [[name, { ...settings, probeIntervalMs: null }] as const]
  })
  return createUpstreams({
    upstreams: Object.fromEntries(asked),
    version: VERSION,
    clock: { nowMs: Date.now, monotonicMs: () => performance.now() },
    random: Math.random,
    // What it would say stands in the list.
    log: { info: () => undefined, warn: () => undefined },
  })
}

async function readListing(
  upstreams: Upstreams,
  server: string,
  verdicts: Verdicts | null,
  kills: readonly ActiveKill[],
): Promise<Listing> {
  try {
    const { tools, rejected } = await upstreams.tools(server)
    const state = stateOf(upstreams, server)
    const facts = upstreams.facts(server) ?? { name: server, labels: {} }
    const judged = verdicts === null ? [] : await judgeTools(tools, facts, state.protocolVersion, verdicts)
    const listed = tools.map((tool, at) => ({
      tool,
      verdict: judged[at] ?? null,
      isKilled: kills.some(({ target }) => stops(target, server, tool.name)),
    }))
    return { state, error: null, tools: listed, unusable: rejected }
  } catch (thrown) {
    if (!(thrown instanceof GatewayError)) throw thrown
    const error = thrown.detail ?? thrown.message
    return { state: stateOf(upstreams, server), error, tools: [], unusable: [] }
  }
}

function stateOf(upstreams: Upstreams, server: string): UpstreamState {
  const state = upstreams.states().find(({ name }) => name === server)
  if (state === undefined) throw new Error(`no upstream is named ${server}`)
  return state
}

function stops(target: ActiveKill['target'], server: string, tool: string): boolean {
  if (target.kind === 'server') return target.name === server
  return target.name === tool && (target.server === null || target.server === server)
}

function show(out: Output, listings: readonly Listing[], asker: Asker | null): void {
  const rows = listings.flatMap((listing) => toRows(listing, asker !== null))
  const headers = ['server', 'tool', 'hints', 'state', ...(asker === null ? [] : ['verdict', 'why', 'rule'])]
  if (rows.length > 0) out.table(headers, rows)
  else out.note('No tool is offered.')
  if (asker !== null && asker.kills === null)
    out.note('Kill switches were not looked at: they are in the database, which only --as opens.')
}

function toRows({ state, tools, unusable }: Listing, isJudged: boolean): readonly (readonly Cell[])[] {
  const blank = isJudged ? [null, null, null] : []
  return [
    ...tools.map((listed) => [
      state.name,
      listed.tool.name,
      hintsOf(listed.tool),
      listed.tool.schemaProblem === null ? 'ok' : `unchecked: ${listed.tool.schemaProblem}`,
      ...(isJudged ? verdictCells(listed) : []),
    ]),
    ...unusable.map(({ name, reason }) => [state.name, name, [], `unusable: ${reason}`, ...blank]),
  ]
}

const HINTS = [
  ['readOnlyHint', 'read-only'],
  ['destructiveHint', 'destructive'],
  ['idempotentHint', 'idempotent'],
  ['openWorldHint', 'open-world'],
] as const

/** What the upstream claims, in both directions. */
function hintsOf({ annotations }: KnownTool): readonly string[] {
  return HINTS.flatMap(([member, word]) => {
    const claim = annotations[member]
    if (typeof claim !== 'boolean') return []
    return [claim ? word : `not ${word}`]
  })
}

function verdictCells({ verdict, isKilled }: ListedTool): readonly Cell[] {
  if (verdict === null) return [null, null, null]
  const at = verdict.rules.map((rule) => rule.at)
  if (isKilled) return ['killed', 'kill switch', at]
  if (verdict.failure !== null) return ['deny', verdict.failure, at]
  if (verdict.allow) return ['allow', verdict.allowedBy, at]
  return ['deny', verdict.deniedBy.length > 0 ? verdict.deniedBy : 'nothing allows it', at]
}

function toJson({ state, error, tools, unusable }: Listing): Record<string, unknown> {
  return {
    server: state.name,
    url: state.url,
    status: state.status,
    error,
    protocol_version: state.protocolVersion,
    tools: tools.map(({ tool, verdict, isKilled }) => ({
      name: tool.name,
      annotations: tool.annotations,
      schema_digest: tool.schemaDigest,
      schema_problem: tool.schemaProblem,
      ...(verdict !== null && {
        verdict: isKilled ? 'killed' : verdict.allow ? 'allow' : 'deny',
        allowed_by: verdict.allowedBy,
        denied_by: verdict.deniedBy,
        failure: verdict.failure,
        rules: verdict.rules,
      }),
    })),
    unusable,
  }
}

function refuseUnread(listings: readonly Listing[]): void {
  const unread = listings.filter(({ error }) => error !== null)
  if (unread.length === 0) return
  const lines = unread.map(({ state, error }) => `${state.name} (${state.url}): ${escapeText(error ?? '')}`)
  throw new UsageError('unreachable', `The tools of these upstreams could not be read:\n${lines.join('\n')}`)
}
