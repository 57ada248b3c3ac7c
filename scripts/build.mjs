/** `npm run build`: the sources to `dist/`, the Rego compiler unpacked beside them. */
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { BUILD_STAMP, ensureInstalled, fail, ROOT, requireNode, sourceDigest } from './prepare.mjs'

const DIST = join(ROOT, 'dist')
const PROGRAM = join(DIST, 'cli/gateway.js')

requireNode()
await ensureInstalled()
const digest = sourceDigest()
emptyDist()
compile()
chmodSync(PROGRAM, 0o755)
await unpackCompiler()
linkProgram()
writeFileSync(BUILD_STAMP, digest)

/** A file that has gone from the sources must not live on. The unpacked compiler stays: it is found by its digest. */
function emptyDist() {
  if (!existsSync(DIST)) return
  for (const name of readdirSync(DIST)) {
    if (name !== 'compiler') rmSync(join(DIST, name), { recursive: true, force: true })
  }
}

function compile() {
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  const made = spawnSync(process.execPath, [tsc, '-p', join(ROOT, 'tsconfig.build.json')], {
    stdio: ['ignore', 2, 2],
  })
  if (made.status !== 0) fail('the sources do not compile')
}

async function unpackCompiler() {
  const { unpackCompilerForBuild } = await import(
    pathToFileURL(join(DIST, 'policy/compiler-artifact.js')).href
  )
  await unpackCompilerForBuild()
}

/**
 * Makes `npx gateway` in this folder mean this program, whatever a registry has under that name: npm looks into
 * node_modules/.bin first.
 */
function linkProgram() {
  const folder = join(ROOT, 'node_modules/.bin')
  const link = join(folder, 'gateway')
  mkdirSync(folder, { recursive: true })
  rmSync(link, { force: true })
  symlinkSync('../../dist/cli/gateway.js', link)
}
