/**
 * Builds the Rego compiler from compiler/ (needs Go, and nothing else does):
 *
 *     node scripts/build-compiler.mjs            build; write rego.wasm.br, rego.wasm.sha256 and wasm_exec.js
 *     node scripts/build-compiler.mjs --check    build and compare with what is committed: 1 = it differs
 *
 * `--quick` compresses less, for work on the compiler itself. The digest is of the raw module: the build is
 * reproducible, a compressor need not be.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { brotliCompressSync, brotliDecompressSync, constants } from 'node:zlib'

const room = fileURLToPath(new URL('../compiler/', import.meta.url))
const artifact = join(room, 'rego.wasm.br')
const digestFile = join(room, 'rego.wasm.sha256')
const loader = join(room, 'wasm_exec.js')

const check = process.argv.includes('--check')
const quick = process.argv.includes('--quick')

main()

function main() {
  const version = /^go (\S+)$/m.exec(readFileSync(join(room, 'go.mod'), 'utf8'))[1]
  const go = toolchain(version)
  if (go === null) {
    console.log(`Go ${version} is not here: the Rego compiler was not rebuilt.`)
    if (check) verifyCommitted()
    process.exitCode = check ? process.exitCode : 2
    return
  }
  const scratch = mkdtempSync(join(tmpdir(), 'rego-compiler-'))
  try {
    const wasm = build(go, join(scratch, 'rego.wasm'))
    if (check) compare(go, wasm)
    else write(go, wasm)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** The environment that makes the installed `go` be exactly this version; null when it cannot. */
function toolchain(version) {
  const env = { ...process.env, GOTOOLCHAIN: `go${version}`, GOFLAGS: '-p=2 -mod=readonly', GOWORK: 'off' }
  const asked = spawnSync('go', ['env', 'GOVERSION', 'GOROOT'], { cwd: room, env, encoding: 'utf8' })
  if (asked.status !== 0) return null
  const [found, root] = asked.stdout.trim().split('\n')
  return found === `go${version}` ? { env, root } : null
}

function build(go, target) {
  console.log('Building compiler/ for js/wasm ...')
  const flags = ['-trimpath', '-buildvcs=false', '-ldflags=-s -w -buildid=']
  const made = spawnSync('go', ['build', ...flags, '-o', target, '.'], {
    cwd: room,
    env: { ...go.env, GOOS: 'js', GOARCH: 'wasm', CGO_ENABLED: '0', GOWASM: '', GOEXPERIMENT: '' },
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  if (made.status !== 0) throw new Error('go build failed')
  return readFileSync(target)
}

function write(go, wasm) {
  console.log(`Compressing ${wasm.length} bytes ...`)
  const packed = brotliCompressSync(wasm, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: quick ? 5 : 11,
      [constants.BROTLI_PARAM_LGWIN]: 24,
      [constants.BROTLI_PARAM_SIZE_HINT]: wasm.length,
    },
  })
  writeFileSync(artifact, packed)
  writeFileSync(digestFile, `${sha256(wasm)}\n`)
  copyFileSync(join(go.root, 'lib/wasm/wasm_exec.js'), loader)
  console.log(`compiler/rego.wasm.br ${packed.length} bytes, sha256 of the module ${sha256(wasm)}`)
}

function compare(go, wasm) {
  const built = sha256(wasm)
  console.log(`sha256 of the module as built: ${built}`)
  verifyCommitted()
  if (readFileSync(digestFile, 'utf8').trim() !== built) {
    fail(
      'compiler/rego.wasm.br was not made from compiler/: run `npm run build:compiler` and commit what it writes',
    )
  }
  if (!readFileSync(join(go.root, 'lib/wasm/wasm_exec.js')).equals(readFileSync(loader))) {
    fail('compiler/wasm_exec.js is not the one of the pinned Go')
  }
  if (!process.exitCode) console.log('compiler/ and its artifact agree.')
}

/** The committed artifact is what the committed digest says. */
function verifyCommitted() {
  const recorded = existsSync(digestFile) ? readFileSync(digestFile, 'utf8').trim() : ''
  const held = sha256(brotliDecompressSync(readFileSync(artifact)))
  if (recorded !== held) fail('compiler/rego.wasm.br does not hold the module of compiler/rego.wasm.sha256')
  else console.log(`compiler/rego.wasm.br holds the recorded module ${held}`)
}

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex')
}

function fail(text) {
  console.error(text)
  process.exitCode = 1
}
