/**
 * What each MCP client needs to know of the gateway, and where it keeps it. These files are shared (in version control, in
 * backups), so none ever holds a key: clients take it from the environment, ask for it, or read it from a file of one's own.
 */
import { homedir, platform } from 'node:os'
import { join } from 'node:path'
import type { Environment } from '../config/interpolate.ts'

/** The clients that are known. */
export const CLIENTS = ['claude-code', 'vscode', 'cursor', 'codex', 'claude-desktop'] as const

/** One of them. */
export type ClientName = (typeof CLIENTS)[number]

/** One mount of the gateway, as a client calls it. */
export interface ClientServer {
  readonly name: string
  readonly url: string
}

/** What goes into a client's file. */
export interface ClientPlan {
  /** Absolute path. */
  readonly file: string
  /** What is added to it. */
  readonly addition: JsonAddition | TomlAddition
  /** Where the client takes the key from. */
  readonly key: KeySource
  /** What to know about this client. */
  readonly note: string | null
}

/** Members for an object of a JSON file, and elements for a list beside it. */
export interface JsonAddition {
  readonly format: 'json'
  /** Name of the object at the top that holds servers. */
  readonly member: string
  readonly servers: Readonly<Record<string, unknown>>
  /** What the client asks for, told apart by `id`. */
  readonly inputs: readonly { readonly id: string; readonly [member: string]: unknown }[]
}

/** Tables for the end of a TOML file. */
export interface TomlAddition {
  readonly format: 'toml'
  readonly tables: Readonly<Record<string, Readonly<Record<string, string>>>>
}

/** `environment`: the variable of that name. `prompt`: the client asks. `file`: a line in a file of one's own. */
export interface KeySource {
  readonly from: 'environment' | 'prompt' | 'file'
  readonly name: string
}

/** Where files are looked for. */
export interface ClientPlaces {
  /** The project's folder. */
  readonly project: string
  readonly environment: Environment
}

/** The variable that holds the key. */
const KEY_VARIABLE = 'GATEWAY_KEY'
/** Name of VS Code's question. */
const INPUT_ID = 'gateway-key'
/** The bridge for clients that start programs only. Pinned: it sees the key. */
const BRIDGE = 'mcp-remote@0.15.1'

const PLANS: Readonly<
  Record<ClientName, (servers: readonly ClientServer[], places: ClientPlaces) => ClientPlan>
> = {
  'claude-code': (servers, { project }) => ({
    file: join(project, '.mcp.json'),
    addition: json('mcpServers', servers, ({ url }) => ({
      type: 'http',
      url,
      headers: { Authorization: `Bearer \${${KEY_VARIABLE}}` },
    })),
    key: { from: 'environment', name: KEY_VARIABLE },
    note: 'Some versions do not send headers: if every call is answered 401, update it.',
  }),
  vscode: (servers, { project }) => ({
    file: join(project, '.vscode', 'mcp.json'),
    addition: {
      ...json('servers', servers, ({ url }) => ({
        type: 'http',
        url,
        headers: { Authorization: `Bearer \${input:${INPUT_ID}}` },
      })),
      inputs: [{ type: 'promptString', id: INPUT_ID, description: 'Key of the MCP gateway', password: true }],
    },
    key: { from: 'prompt', name: INPUT_ID },
    note: null,
  }),
  cursor: (servers, { project }) => ({
    file: join(project, '.cursor', 'mcp.json'),
    addition: json('mcpServers', servers, ({ url }) => ({
      url,
      headers: { Authorization: `Bearer \${env:${KEY_VARIABLE}}` },
    })),
    key: { from: 'environment', name: KEY_VARIABLE },
    note: null,
  }),
  codex: (servers, { environment }) => ({
    file: join(environment['CODEX_HOME'] || join(homedir(), '.codex'), 'config.toml'),
    addition: {
      format: 'toml',
      tables: Object.fromEntries(
        servers.map(({ name, url }) => [`mcp_servers.${name}`, { url, bearer_token_env_var: KEY_VARIABLE }]),
      ),
    },
    key: { from: 'environment', name: KEY_VARIABLE },
    note: null,
  }),
  'claude-desktop': (servers, { environment }) => {
    const headers = join(homedir(), '.mcp-policy-gateway', 'headers')
    return {
      file: join(desktopFolder(environment), 'claude_desktop_config.json'),
      addition: json('mcpServers', servers, ({ url }) => ({
        command: 'npx',
        args: ['-y', BRIDGE, url, '--transport', 'http-only', '--header-file', headers, ...insecure(url)],
      })),
      key: { from: 'file', name: headers },
      note: 'It skips entries with url and headers, so a bridge (npx, from the npm registry) stands in between.',
    }
  },
}

/** What the client needs for these servers. */
export function toClientPlan(
  client: ClientName,
  servers: readonly ClientServer[],
  places: ClientPlaces,
): ClientPlan {
  return PLANS[client](servers, places)
}

function json(
  member: string,
  servers: readonly ClientServer[],
  toEntry: (server: ClientServer) => Readonly<Record<string, unknown>>,
): JsonAddition {
  const entries = servers.map((server) => [server.name, toEntry(server)] as const)
  return { format: 'json', member, servers: Object.fromEntries(entries), inputs: [] }
}

/** The bridge wants to be told that plain HTTP is meant. */
function insecure(url: string): readonly string[] {
  return url.startsWith('http:') ? ['--allow-http'] : []
}

function desktopFolder(environment: Environment): string {
  if (platform() === 'darwin') return join(homedir(), 'Library', 'Application Support', 'Claude')
  if (platform() === 'win32')
    return join(environment['APPDATA'] || join(homedir(), 'AppData', 'Roaming'), 'Claude')
  return join(environment['XDG_CONFIG_HOME'] || join(homedir(), '.config'), 'Claude')
}
