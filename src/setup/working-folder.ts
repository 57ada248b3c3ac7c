/**
 * `gateway init`: a folder from which an organisation runs its gateway. Configuration, policies with tests, secrets of its
 * own, and the same gateway in containers. Nothing that exists is ever written over.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { chmod, chown, lstat, mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isLoopback } from '../config/listen.ts'
import { UsageError } from '../errors.ts'
import { CASES_FOLDER, readFolder } from '../policy/build-sources.ts'
import { VERSION } from '../version.ts'

/** What {@link createWorkingFolder} needs. */
export interface WorkingFolderOptions {
  /** Made when it is missing. */
  readonly folder: string
  /** Name of the first upstream. */
  readonly server: string
  /** Address of its MCP endpoint. */
  readonly url: string
}

/** Both stand above `src/setup` and `dist/setup` alike. */
const TEMPLATES = fileURLToPath(new URL('../../templates/init/', import.meta.url))
const SHIPPED_POLICIES = fileURLToPath(new URL('../../policies/', import.meta.url))
const SCHEMAS = fileURLToPath(new URL('../../schemas/', import.meta.url))

/** User of the container image, for when whoever runs this is root: the gateway's containers never are. */
const IMAGE_USER = 65532

/** As in schemas/config.schema.json. */
const SERVER_NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/
/** What would end the quoted text or the reference that the address stands in. */
const UNSAFE_IN_YAML = /["\\{}$\s]/

interface FileToWrite {
  /** Relative to the folder, with `/`. */
  readonly name: string
  readonly text: string
  readonly kind: 'plain' | 'secret' | 'program'
}

/** Makes the folder. Returns the names of the files written. Throws UsageError `usage` or `exists`, then nothing was written. */
export async function createWorkingFolder(options: WorkingFolderOptions): Promise<readonly string[]> {
  const folder = resolve(options.folder)
  const owner = ownerOfSecrets()
  const files = [
    ...(await shippedPolicies()),
    ...(await editorSchemas()),
    ...(await fromTemplates(replacements(options, owner))),
    ...secrets(),
  ]
  await refuseExisting(folder, files)
  for (const file of files) await write(folder, file, owner)
  await makeSpool(folder, owner)
  return files.map(({ name }) => name).sort()
}

/** The organisation's rules and roles, without what belongs to the example server. */
async function shippedPolicies(): Promise<FileToWrite[]> {
  const found = await readFolder(SHIPPED_POLICIES, {
    enters: (name) => name !== 'servers' && name !== CASES_FOLDER,
    takes: (name) => /\.rego$|^data\.(json|ya?ml)$/.test(name),
  })
  return found.map(({ name, text }) => ({ name: `policies/${name}`, text, kind: 'plain' }))
}

/** What editors check against while people type. */
async function editorSchemas(): Promise<FileToWrite[]> {
  const names = ['config.schema.json', 'policy-case.schema.json', 'policy-input.schema.json']
  return await Promise.all(
    names.map(async (name) => ({
      name: `schemas/${name}`,
      text: await readFile(join(SCHEMAS, name), 'utf8'),
      kind: 'plain' as const,
    })),
  )
}

async function fromTemplates(values: Readonly<Record<string, string>>): Promise<FileToWrite[]> {
  const server = values['SERVER'] ?? ''
  const places: readonly (readonly [template: string, name: string, kind: FileToWrite['kind']])[] = [
    ['gateway.yaml', 'gateway.yaml', 'plain'],
    ['README.md', 'README.md', 'plain'],
    ['compose.yaml', 'compose.yaml', 'plain'],
    ['env.example', '.env.example', 'plain'],
    ['env.example', '.env', 'plain'],
    ['gitignore', '.gitignore', 'plain'],
    ['vscode/settings.json', '.vscode/settings.json', 'plain'],
    ['vscode/extensions.json', '.vscode/extensions.json', 'plain'],
    ['regal.yaml', '.regal/config.yaml', 'plain'],
    ['database/roles.sh', 'database/roles.sh', 'program'],
    ['policies/server/data.yaml', `policies/servers/${server}/data.yaml`, 'plain'],
    ['policies/cases/first.yaml', `policies/${CASES_FOLDER}/first.yaml`, 'plain'],
  ]
  return await Promise.all(
    places.map(async ([template, name, kind]) => {
      const text = await readFile(join(TEMPLATES, template), 'utf8')
      return { name, kind, text: text.replace(/@([A-Z_]+)@/g, (whole, key: string) => values[key] ?? whole) }
    }),
  )
}

function replacements(options: WorkingFolderOptions, owner: Owner): Readonly<Record<string, string>> {
  const { server } = options
  if (!SERVER_NAME.test(server)) {
    throw new UsageError('usage', '--server: small letters, digits and dashes, at most 63.')
  }
  const url = parseAddress(options.url)
  return {
    SERVER: server,
    // A variable begins with a letter.
    VARIABLE: `${/^\d/.test(server) ? 'SERVER_' : ''}${server.toUpperCase().replaceAll('-', '_')}`,
    URL: url,
    CONTAINER_URL: seenFromContainer(url),
    VERSION,
    RUN_AS: `${owner.uid}:${owner.gid}`,
  }
}

function parseAddress(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null
  const isFit = url !== null && /^https?:$/.test(url.protocol) && url.username === '' && url.password === ''
  if (!isFit || UNSAFE_IN_YAML.test(url.href)) {
    throw new UsageError(
      'usage',
      '--url: an http or https address of an MCP endpoint, without credentials (those are headers, see gateway.yaml).',
    )
  }
  return url.href
}

/** In a container the loopback address is the container itself. */
function seenFromContainer(address: string): string {
  const url = new URL(address)
  if (isLoopback(url.hostname.replace(/^\[|\]$/g, ''))) url.hostname = 'host.docker.internal'
  return url.href
}

/** Fresh ones. Passwords are of letters that an address takes as they are. */
function secrets(): FileToWrite[] {
  const gateway = randomBytes(32).toString('base64url')
  const owner = randomBytes(32).toString('base64url')
  const texts = {
    secret: randomBytes(32).toString('base64'),
    'audit-key.pem': String(
      generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }),
    ).trimEnd(),
    'database/gateway-password': gateway,
    'database/owner-password': owner,
    'database/gateway-url': `postgresql://gateway_runtime:${gateway}@postgres:5432/gateway`,
    'database/owner-url': `postgresql://gateway_owner:${owner}@postgres:5432/gateway`,
  }
  return Object.entries(texts).map(([name, text]) => ({ name, text: `${text}\n`, kind: 'secret' }))
}

/** Where the container keeps audit rows until they are stored: made by docker it would be root's. */
async function makeSpool(folder: string, { uid, gid }: Owner): Promise<void> {
  const path = join(folder, 'spool')
  await mkdir(path, { recursive: true, mode: 0o700 })
  if (process.getuid?.() === 0) await chown(path, uid, gid)
}

interface Owner {
  readonly uid: number
  readonly gid: number
}

/** Who will read the secrets in the containers. */
function ownerOfSecrets(): Owner {
  const uid = process.getuid?.() ?? 0
  if (uid === 0) return { uid: IMAGE_USER, gid: IMAGE_USER }
  return { uid, gid: process.getgid?.() ?? uid }
}

async function refuseExisting(folder: string, files: readonly FileToWrite[]): Promise<void> {
  const existing: string[] = []
  for (const { name } of files) {
    if ((await lstat(join(folder, name)).catch(() => null)) !== null) existing.push(name)
  }
  if (existing.length > 0) throw existsError(folder, existing.sort())
}

function existsError(folder: string, names: readonly string[], cause?: unknown): UsageError {
  const list = names.map((name) => `\n  ${name}`).join('')
  return new UsageError(
    'exists',
    `${folder} holds already:${list}\nNothing is written over. Name another folder: gateway init DIR`,
    { cause },
  )
}

const MODES = { plain: 0o644, secret: 0o600, program: 0o755 } as const

async function write(folder: string, { name, text, kind }: FileToWrite, owner: Owner): Promise<void> {
  const path = join(folder, name)
  try {
    await makeFolder(dirname(path))
    await writeFile(path, text, { mode: MODES[kind], flag: 'wx' })
    // Whatever the umask is: the user in a container reads the one, nobody else the other.
    await chmod(path, MODES[kind])
    if (kind === 'secret' && process.getuid?.() === 0) await chown(path, owner.uid, owner.gid)
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown reason'
    if (code === 'EEXIST') throw existsError(folder, [name], cause)
    throw new UsageError(
      'usage',
      `${path} cannot be written (${code}). Name another folder: gateway init DIR`,
      {
        cause,
      },
    )
  }
}

/** Whatever the umask is, the user in a container must get to what stands below. */
async function makeFolder(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true })
  if (first === undefined) return
  for (let made = path; made.length >= first.length; made = dirname(made)) await chmod(made, 0o755)
}
