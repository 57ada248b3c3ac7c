/** `gateway keys create|list|revoke|rotate`. A key is shown once, alone on stdout; everything else goes to stderr. */
import type { Argv } from 'yargs'
import type { KeySettings } from '../auth/key-settings.ts'
import { KEY_KINDS } from '../auth/key-settings.ts'
import type { ApiKey, IssuedKey } from '../auth/key-store.ts'
import {
  createKey,
  findKey,
  keyState,
  listKeys,
  MAX_LISTED,
  revokeKey,
  rotateKey,
} from '../auth/key-store.ts'
import { waitUntilApplied } from '../db/applied.ts'
import { confirm } from './confirm.ts'
import type { CommandArgs, CommandGroup, DatabaseContext } from './context.ts'
import { withDatabase } from './context.ts'
import { parseClaims, parseDuration, parseExpiry } from './key-arguments.ts'
import type { Output, Streams } from './output.ts'
import { escapeText } from './text.ts'

interface CreateArgs extends CommandArgs {
  readonly name?: string | undefined
  readonly kind: string
  readonly role: readonly string[]
  readonly tenant?: string | undefined
  readonly team: readonly string[]
  readonly scope: readonly string[]
  readonly claim: readonly string[]
  readonly expires?: string | undefined
}

interface ListArgs extends CommandArgs {
  readonly all: boolean
}

interface RevokeArgs extends CommandArgs {
  readonly id: string
  readonly yes: boolean
}

interface RotateArgs extends CommandArgs {
  readonly id: string
  readonly overlap: string
  readonly expires?: string | undefined
}

/** Adds the commands. */
export const keysCommands: CommandGroup = (parser, streams) =>
  parser.command('keys', 'Make, list, end and renew API keys', (group) =>
    group
      .command('create', 'Make a key; it is shown once', createOptions, (args) => create(args, streams))
      .command('list', 'List the keys, never their secrets', listOptions, (args) => list(args, streams))
      .command('revoke <id>', 'End a key now, on every gateway', revokeOptions, (args) =>
        revoke(args, streams),
      )
      .command('rotate <id>', 'Give a key a new secret; its id and rights stay', rotateOptions, (args) =>
        rotate(args, streams),
      )
      .demandCommand(1, 'Name a command: create, list, revoke or rotate.'),
  )

function createOptions(command: Argv<CommandArgs>): Argv<CreateArgs> {
  return command
    .option('name', {
      type: 'string',
      describe: 'What policies and rows call the principal (default: the id)',
    })
    .option('kind', { choices: KEY_KINDS, default: 'agent', describe: 'Who holds it' })
    .option('role', { type: 'string', array: true, default: [], describe: 'A role; may be repeated' })
    .option('tenant', { type: 'string', describe: 'The tenant it belongs to' })
    .option('team', { type: 'string', array: true, default: [], describe: 'A team; may be repeated' })
    .option('scope', { type: 'string', array: true, default: [], describe: 'A scope; may be repeated' })
    .option('claim', {
      type: 'string',
      array: true,
      default: [],
      describe: 'NAME=VALUE, the value as JSON or plain text; may be repeated',
    })
    .option('expires', { type: 'string', describe: 'End of life: 12h, 30d, 8w or an RFC 3339 moment' })
    .example('$0 keys create --name ada --kind user --role developer', 'A key that does not expire')
    .example('$0 keys create --role admin --scope gateway:admin --expires 30d', 'For thirty days')
    .example('$0 keys create --role developer --claim mfa=true --tenant acme', 'What a policy can ask for')
}

function listOptions(command: Argv<CommandArgs>): Argv<ListArgs> {
  return command
    .option('all', { type: 'boolean', default: false, describe: 'Expired and revoked ones as well' })
    .example('$0 keys list --all', 'Also what has ended')
}

function revokeOptions(command: Argv<CommandArgs>): Argv<RevokeArgs> {
  return command
    .positional('id', { type: 'string', demandOption: true, describe: 'Its id, or the beginning of it' })
    .option('yes', { alias: 'y', type: 'boolean', default: false, describe: 'Do not ask' })
    .example('$0 keys revoke k3v9 --yes', 'The one key whose id begins with k3v9')
}

function rotateOptions(command: Argv<CommandArgs>): Argv<RotateArgs> {
  return command
    .positional('id', { type: 'string', demandOption: true, describe: 'Its id, or the beginning of it' })
    .option('overlap', {
      type: 'string',
      default: '0s',
      describe: 'How long the old secret stays good: 10m, 1d',
    })
    .option('expires', { type: 'string', describe: 'New end of life, or `never`; otherwise it stays' })
    .example('$0 keys rotate k3v9 --overlap 1d', 'A day to roll it out')
}

async function create(args: CreateArgs, streams?: Streams): Promise<void> {
  const nowMs = Date.now()
  const settings: KeySettings = {
    name: args.name ?? null,
    kind: KEY_KINDS.find((kind) => kind === args.kind) ?? 'agent',
    roles: args.role,
    tenant: args.tenant ?? null,
    teams: args.team,
    scopes: args.scope,
    claims: parseClaims(args.claim),
    expiresAt: args.expires === undefined ? null : parseExpiry(args.expires, nowMs),
  }
  await withDatabase(
    args,
    async ({ out, pools }) => {
      const issued = await createKey(pools.general, settings, nowMs)
      if (settings.roles.length === 0) out.note('It has no role: the default policy will deny everything.')
      show(out, issued)
    },
    streams,
  )
}

async function list(args: ListArgs, streams?: Streams): Promise<void> {
  await withDatabase(
    args,
    async ({ out, pools }) => {
      const keys = await listKeys(pools.general, { includeEnded: args.all })
      if (out.isJson) {
        out.json(keys.map(toJson))
        return
      }
      if (keys.length === 0) {
        out.note(args.all ? 'There is no key.' : 'There is no active key (--all shows ended ones).')
        out.next('gateway keys create --name ada --role developer')
        return
      }
      const headers = ['id', 'name', 'kind', 'roles', 'tenant', 'state', 'created', 'expires']
      out.table(headers, keys.map(toRow))
      if (keys.length === MAX_LISTED) out.note(`Only the newest ${MAX_LISTED} are shown.`)
    },
    streams,
  )
}

async function revoke(args: RevokeArgs, streams?: Streams): Promise<void> {
  await withDatabase(
    args,
    async (context) => {
      const { out, pools } = context
      const key = await findKey(pools.general, args.id)
      if (!args.yes) await confirm(`Revoke ${title(key)}? This cannot be undone. [y/N] `, streams)
      const seq = await revokeKey(pools.general, key.id)
      const report = seq === null ? { applied: [], pending: [] } : await waitUntilApplied(pools.general, seq)
      if (out.isJson) {
        out.json({ id: key.id, was_active: seq !== null, ...report })
        return
      }
      if (seq === null) out.note(`${title(key)} was revoked before.`)
      else out.line(`revoked ${key.id}`)
      tellPending(out, report)
    },
    streams,
  )
}

async function rotate(args: RotateArgs, streams?: Streams): Promise<void> {
  const nowMs = Date.now()
  const overlapMs = parseDuration(args.overlap)
  await withDatabase(
    args,
    async ({ out, pools }: DatabaseContext) => {
      const key = await findKey(pools.general, args.id)
      const expiry = args.expires === undefined ? {} : { expiresAt: parseExpiry(args.expires, nowMs) }
      const issued = await rotateKey(pools.general, key.id, { overlapMs, ...expiry }, nowMs)
      show(out, issued)
      tellPending(out, await waitUntilApplied(pools.general, issued.changeSeq))
    },
    streams,
  )
}

/** The key alone on stdout, so that `KEY=$(gateway keys create ..)` works. */
function show(out: Output, { key, text }: IssuedKey): void {
  if (out.isJson) {
    out.json({ ...toJson(key), key: text })
    return
  }
  const until = key.expiresAt === null ? 'does not expire' : `expires ${key.expiresAt.toISOString()}`
  out.note(`${title(key)}, roles: ${key.roles.join(', ') || 'none'}, ${until}.`)
  if (key.overlapUntil !== null) {
    out.note(`The old secret stays good until ${key.overlapUntil.toISOString()}.`)
  }
  out.note('This is the only time the key is shown:')
  out.line(text)
}

function tellPending(out: Output, report: { readonly pending: readonly string[] }): void {
  if (report.pending.length === 0) return
  const names = report.pending.map(escapeText).join(', ')
  out.note(
    `Not confirmed yet by ${names}. A gateway that hears nothing from the database asks it about every call ` +
      'after auth.max_stale_s seconds, and refuses when it cannot.',
  )
}

function title(key: ApiKey): string {
  return key.name === null ? `key ${key.id}` : `key ${key.id} (${escapeText(key.name)})`
}

function toRow(key: ApiKey) {
  const state = keyState(key, Date.now())
  return [key.id, key.name, key.kind, key.roles, key.tenant, state, key.createdAt, key.expiresAt] as const
}

function toJson(key: ApiKey): Record<string, unknown> {
  return {
    id: key.id,
    name: key.name,
    kind: key.kind,
    roles: key.roles,
    tenant: key.tenant,
    teams: key.teams,
    scopes: key.scopes,
    claims: key.claims,
    state: keyState(key, Date.now()),
    created_at: key.createdAt,
    rotated_at: key.rotatedAt,
    expires_at: key.expiresAt,
    revoked_at: key.revokedAt,
    old_secret_until: key.overlapUntil,
  }
}
