/** Checks that need more than one setting, or more than the schema can say. */
import { createPrivateKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { UsageError } from '../errors.ts'
import { parseSecret } from '../secret.ts'
import { parsePublicKey } from '../signing-key.ts'
import type { SettingPath } from './document.ts'
import { isLoopback, isWildcard, parseListen } from './listen.ts'
import { pathText } from './problems.ts'
import type { SettingsTree } from './to-config.ts'
import { checkCredential, checkUpstreamTls } from './upstream-credential.ts'

interface Subject {
  readonly tree: SettingsTree
  readonly templates: ReadonlyMap<string, string>
  readonly origins: ReadonlyMap<string, string>
  readonly dev: boolean
  /** Top-level names that are not even well formed: rules about them would stumble. */
  readonly broken: ReadonlySet<string>
}

type Complain = (path: SettingPath, part: 'key' | 'value', message: string, hint: string | null) => void

const RULES: readonly {
  readonly needs: readonly string[]
  check(subject: Subject, complain: Complain): void
}[] = [
  { needs: ['listen', 'admin', 'public_url', 'allowed_hosts'], check: checkListeners },
  { needs: ['auth', 'listen', 'public_url'], check: checkCredentials },
  { needs: ['database', 'secret', 'secret_file'], check: checkDatabase },
  { needs: ['trusted_proxies'], check: checkProxies },
  { needs: ['upstreams'], check: checkUpstreams },
  { needs: ['tls'], check: checkTls },
  { needs: ['audit'], check: checkAudit },
  { needs: ['policy_keys'], check: checkPolicyKeys },
]

/** Calls `complain` for every rule that is broken. */
export function checkRules(subject: Subject, complain: Complain): void {
  for (const { needs, check } of RULES) {
    if (!needs.some((name) => subject.broken.has(name))) check(subject, complain)
  }
}

function checkListeners({ tree }: Subject, complain: Complain): void {
  const front = parseListen(tree.listen)
  const admin = parseListen(tree.admin.listen)
  const isNamed = tree.public_url !== null || tree.allowed_hosts.length > 0
  if (front !== null && !isLoopback(front.host) && !isNamed) {
    const message = 'not a loopback address, and no host name is allowed'
    complain(['listen'], 'value', message, 'Set public_url, or list the names clients use in allowed_hosts')
  }
  if (admin !== null && isWildcard(admin.host) && !tree.admin.allow_wildcard) {
    const hint = 'Name one address, or set admin.allow_wildcard: true where nobody else can reach it'
    complain(['admin', 'listen'], 'value', 'would listen on all interfaces', hint)
  }
  if (front !== null && admin !== null && front.port !== 0 && tree.listen === tree.admin.listen) {
    complain(['admin', 'listen'], 'value', 'is the address of the front door too', 'Choose another port')
  }
}

function checkCredentials({ tree, dev }: Subject, complain: Complain): void {
  if (!(tree.auth.api_keys || dev)) {
    const hint = 'Set auth.api_keys: true (or use --dev on your own machine)'
    complain(['auth', 'api_keys'], 'value', 'no kind of credential is configured', hint)
  }
  if (!dev) return
  const front = parseListen(tree.listen)
  if (front !== null && !isLoopback(front.host)) {
    complain(['listen'], 'value', '--dev serves without credentials, and only on loopback', 'Use 127.0.0.1')
  }
  if (tree.public_url !== null) {
    complain(
      ['public_url'],
      'key',
      '--dev serves without credentials, and not in public',
      'Remove one of them',
    )
  }
}

function checkDatabase(subject: Subject, complain: Complain): void {
  const { tree } = subject
  if (tree.database.url !== null && tree.secret === null) {
    const hint = 'Set GATEWAY_SECRET or secret_file; make one with: openssl rand -base64 32'
    complain(['secret'], 'key', 'is mandatory with a database url: all gateways on it share one', hint)
  }
  if (tree.database.url === null && tree.database.migrate_url !== null) {
    complain(['database', 'migrate_url'], 'key', 'given without database.url', 'Set database.url as well')
  }
  if (tree.secret !== null) checkSecret(tree.secret, complain)
  refuseLiteral(subject, ['secret'], tree.secret, complain)
  for (const name of ['url', 'migrate_url'] as const) {
    const url = tree.database[name]
    if (url !== null && hasPassword(url)) refuseLiteral(subject, ['database', name], url, complain)
  }
}

function checkAudit(subject: Subject, complain: Complain): void {
  const { signing_key: key } = subject.tree.audit
  if (key === null) return
  refuseLiteral(subject, ['audit', 'signing_key'], key, complain)
  if (isEd25519(key)) return
  const hint = 'Make one with: openssl genpkey -algorithm ed25519 -out FILE'
  complain(['audit', 'signing_key'], 'value', 'is no Ed25519 private key in PEM form', hint)
}

function isEd25519(pem: string): boolean {
  try {
    return createPrivateKey(pem).asymmetricKeyType === 'ed25519'
  } catch {
    return false
  }
}

function checkSecret(secret: string, complain: Complain): void {
  try {
    parseSecret(secret)
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    complain(['secret'], 'value', error.message, null)
  }
}

/** A secret that stands in the file itself ends up in backups, in git and in support tickets. */
function refuseLiteral(
  subject: Pick<Subject, 'origins' | 'templates'>,
  path: SettingPath,
  value: string | null,
  complain: Complain,
): void {
  const text = pathText(path)
  const isFromFile = /:\d+:\d+$/.test(subject.origins.get(text) ?? '')
  if (value === null || !isFromFile || subject.templates.has(text)) return
  complain(
    path,
    'value',
    'a secret written into the file',
    'Use a variable: $NAME in braces, with NAME or NAME_FILE set',
  )
}

/** A password after `user:`, or as a parameter. */
function hasPassword(url: string): boolean {
  if (!URL.canParse(url)) return false
  const { password, searchParams } = new URL(url)
  return password !== '' || searchParams.has('password')
}

function checkProxies({ tree }: Subject, complain: Complain): void {
  for (const [at, network] of tree.trusted_proxies.entries()) {
    if (/\/0+$/.test(network)) {
      const message = 'trusts everybody to name the client address'
      complain(['trusted_proxies', at], 'value', message, 'List the addresses of your proxies')
    }
  }
}

/** The gateway sets these itself; a fixed value would break the protocol or smuggle a second message. */
const RESERVED_HEADERS = new Set([
  'accept',
  'accept-encoding',
  'connection',
  'content-encoding',
  'content-length',
  'content-type',
  'expect',
  'host',
  'keep-alive',
  'last-event-id',
  'mcp-protocol-version',
  'mcp-session-id',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])
const SECRET_HEADER =
  /^(authorization|proxy-authorization|cookie)$|token|secret|password|api[-_]?key|credential/

/** Names of variables of a stdio server that hold its credentials. */
const SECRET_VARIABLE = /TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL|PRIVATE_KEY/i
const STDIO_ONLY = ['env', 'cwd', 'sessions', 'max_children', 'session_idle_ms', 'start_timeout_ms']
const HTTP_ONLY = ['headers', 'credential', 'tls', 'connect_timeout_ms']

/** An upstream is at a url or started by a command, and has the settings of one kind. */
function checkTransport({ tree, templates, origins }: Subject, name: string, complain: Complain): void {
  const path = ['upstreams', name]
  const { url, command, env } = tree.upstreams[name] as SettingsTree['upstreams'][string]
  if (url === null && command === null) {
    const hint = 'Give the url of an HTTP server, or the command that starts a stdio server'
    complain([...path, 'url'], 'key', 'is missing', hint)
  }
  if (url !== null && command !== null)
    complain(
      [...path, 'command'],
      'key',
      `given together with ${pathText([...path, 'url'])}`,
      'Keep one of them',
    )
  if (command?.[0] === '') complain([...path, 'command', 0], 'value', 'names no program', null)
  const isSet = (text: string): boolean =>
    [...origins.keys()].some((set) => set === text || set.startsWith(`${text}.`))
  for (const key of command === null ? STDIO_ONLY : HTTP_ONLY) {
    const kind = command === null ? 'servers started by a command' : 'servers at a url'
    if (isSet(pathText([...path, key]))) complain([...path, key], 'key', `only for ${kind}`, 'Remove it')
  }
  for (const [variable, value] of Object.entries(env)) {
    const at = [...path, 'env', variable]
    if (SECRET_VARIABLE.test(variable)) refuseLiteral({ origins, templates }, at, value, complain)
  }
}

function checkUpstreams(subject: Subject, complain: Complain): void {
  for (const [name, upstream] of Object.entries(subject.tree.upstreams)) {
    checkTransport(subject, name, complain)
    const seen = new Set<string>()
    for (const [written, value] of Object.entries(upstream.headers)) {
      const path = ['upstreams', name, 'headers', written]
      const header = written.toLowerCase()
      if (seen.has(header)) complain(path, 'key', 'the same header twice', 'Header names ignore case')
      seen.add(header)
      if (isReserved(header)) complain(path, 'key', 'the gateway sets this header itself', 'Remove it')
      if (SECRET_HEADER.test(header)) refuseLiteral(subject, path, value, complain)
    }
    checkOwnProof(subject, name, complain)
  }
}

function isReserved(header: string): boolean {
  return RESERVED_HEADERS.has(header) || header.startsWith('mcp-')
}

/** What the gateway shows this upstream besides headers. */
function checkOwnProof(subject: Subject, name: string, complain: Complain): void {
  const upstream = subject.tree.upstreams[name]
  if (upstream === undefined) return
  const inside: Complain = (path, ...rest) => complain(['upstreams', name, ...path], ...rest)
  checkCredential(upstream, inside)
  checkUpstreamTls(upstream, inside)
  const header = upstream.credential?.header.toLowerCase() ?? ''
  if (isReserved(header))
    inside(['credential', 'header'], 'value', 'the gateway sets this header itself', 'Name another')
  const secret = upstream.credential?.oauth?.client_secret ?? null
  refuseLiteral(subject, ['upstreams', name, 'credential', 'oauth', 'client_secret'], secret, complain)
}

function checkTls({ tree }: Subject, complain: Complain): void {
  if (tree.tls === null) return
  for (const name of ['cert_file', 'key_file'] as const) {
    try {
      if (!readFileSync(tree.tls[name], 'utf8').includes('-----BEGIN ')) {
        complain(['tls', name], 'value', 'is not a PEM file', null)
      }
    } catch (cause) {
      const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown reason'
      complain(['tls', name], 'value', `cannot read ${tree.tls[name]} (${code})`, null)
    }
  }
}

function checkPolicyKeys({ tree }: Subject, complain: Complain): void {
  for (const [at, file] of tree.policy_keys.entries()) {
    try {
      parsePublicKey(readFileSync(file, 'utf8'))
    } catch (cause) {
      const code = cause instanceof Error && 'code' in cause ? String(cause.code) : null
      const reason = cause instanceof Error ? cause.message : String(cause)
      const message = code === null ? `cannot use ${file}: ${reason}` : `cannot read ${file} (${code})`
      complain(
        ['policy_keys', at],
        'value',
        message,
        'Name the PEM file with the public key of whoever signs',
      )
    }
  }
}
