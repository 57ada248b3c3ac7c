/**
 * What `npm start`, `npm test` and `npm run build` need before they can begin: a Node that is new enough, the packages of
 * package-lock.json, and a build that is not older than its sources. Plain JavaScript that imports nothing but Node's own
 * modules: in a fresh clone there is nothing else.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Folder of package.json. */
export const ROOT = fileURLToPath(new URL('..', import.meta.url))

const OLDEST_NODE = [20, 19]

/** Ends the process with a clear word when Node is too old to run anything here. */
export function requireNode() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  const isOldEnough = major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1])
  if (isOldEnough) return
  fail(
    `Node ${OLDEST_NODE.join('.')} or newer is needed, this is ${process.versions.node}. See https://nodejs.org`,
  )
}

/** Prints an error and ends the process. */
export function fail(text) {
  process.stderr.write(`error: ${text}\n`)
  process.exit(2)
}

/** A line of talk on stderr. */
export function tell(text) {
  process.stderr.write(`${text}\n`)
}

/** Installs the packages of package-lock.json unless exactly these are there already. */
export async function ensureInstalled() {
  const reason = whyInstall()
  if (reason === null) return
  tell(`Installing packages (${reason}; needs the network, about a minute) ...`)
  // Everything is built and run from the sources: also where NODE_ENV or npm's settings would leave parts out.
  // Not `npm ci`: it refuses when a mirror of the registry lacks the binaries of some other platform, which nobody needs.
  const args = ['install', '--no-save', '--include=dev', '--include=optional', '--no-audit', '--no-fund']
  await told('still installing', () => run(npm(), args))
}

/** Builds `dist/` unless it was made from just these sources. */
export async function ensureBuilt() {
  if (readBuildStamp() === sourceDigest()) return
  tell('Building ...')
  await told('still building', () => run([process.execPath], [join(ROOT, 'scripts/build.mjs')]))
}

/** Digest of everything the build reads. */
export function sourceDigest() {
  const hash = createHash('sha256')
  const names = [
    'package.json',
    'package-lock.json',
    'tsconfig.json',
    'tsconfig.build.json',
    'compiler/rego.wasm.sha256',
  ]
  for (const name of [...names, ...filesUnder('src'), 'scripts/build.mjs']) {
    hash
      .update(`${name}\0`)
      .update(readFileSync(join(ROOT, name)))
      .update('\0')
  }
  return hash.digest('hex')
}

/** File that holds the digest of the sources `dist/` was made from. */
export const BUILD_STAMP = join(ROOT, 'dist/.sources')

function readBuildStamp() {
  return existsSync(BUILD_STAMP) ? readFileSync(BUILD_STAMP, 'utf8') : null
}

function filesUnder(folder) {
  return readdirSync(join(ROOT, folder), { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const name = `${folder}/${entry.name}`
      if (entry.isDirectory()) return filesUnder(name)
      return entry.isFile() ? [name] : []
    })
}

/** null when node_modules holds the locked versions; else what is missing, in words. */
function whyInstall() {
  const installed = readPackages('node_modules/.package-lock.json')
  if (installed === null) return 'first start'
  for (const [path, wanted] of Object.entries(readPackages('package-lock.json') ?? {})) {
    if (path === '' || wanted.link === true) continue
    const found = installed[path]
    // Optional packages are for one platform each; where one is wanted and missing, whoever needs it says so.
    if (found === undefined && (wanted.optional === true || wanted.devOptional === true)) continue
    if (found?.version !== wanted.version || !existsSync(join(ROOT, path))) return `${path} has changed`
  }
  return null
}

function readPackages(name) {
  try {
    return JSON.parse(readFileSync(join(ROOT, name), 'utf8')).packages ?? null
  } catch {
    return null
  }
}

/** The npm that runs us, else the one that came with Node. */
function npm() {
  const script = process.env.npm_execpath
  if (script !== undefined && /npm-cli\.c?js$/.test(script)) return [process.execPath, script]
  return process.platform === 'win32' ? ['npm.cmd'] : ['npm']
}

/** Runs a step and says every few seconds that it is still at it. */
async function told(text, step) {
  const from = Date.now()
  const timer = setInterval(() => tell(`  ${text} (${Math.round((Date.now() - from) / 1000)} s)`), 5000)
  try {
    await step()
  } finally {
    clearInterval(timer)
  }
}

/** Runs a program in the project's folder, its output on our stderr. Ends the process when it fails. */
function run([program, ...first], args) {
  return new Promise((resolve) => {
    const child = spawn(program, [...first, ...args], {
      cwd: ROOT,
      stdio: ['ignore', 2, 2],
      shell: process.platform === 'win32',
    })
    child.once('error', (error) => fail(`cannot run ${program}: ${error.message}`))
    child.once('exit', (code, signal) => {
      if (code === 0) resolve()
      else fail(`\`${[program, ...first, ...args].join(' ')}\` ended with ${signal ?? code}`)
    })
  })
}
