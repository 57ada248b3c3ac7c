/**
 * Runs the Rego compiler (a Go program built for js/wasm) on stdin and stdout. The child process of
 * src/policy/compiler.ts; usage:
 *
 *     node --liftoff-only --wasm-lazy-validation runner.mjs <rego.wasm> <parent pid>
 *
 * The flags matter: with V8's defaults the huge Go functions are optimised in the background, which takes seconds and
 * delays the exit. The program gets nothing but its three standard streams: no files, no environment, no network.
 */
import { readFile } from 'node:fs/promises'
import * as files from 'node:fs'
import { Worker, isMainThread, workerData } from 'node:worker_threads'

if (isMainThread) await main(process.argv[2], Number(process.argv[3]))
else endWithParent(workerData.parent)

async function main(wasmPath, parent) {
  // A compilation keeps this thread busy, so that it cannot notice that stdin has ended: another one looks.
  new Worker(new URL(import.meta.url), { workerData: { parent } }).unref()
  globalThis.fs = standardStreams()
  await import('./wasm_exec.js')
  const go = new globalThis.Go()
  go.argv = ['rego-compiler']
  go.env = {}
  go.exit = (code) => process.exit(code)
  const { instance } = await WebAssembly.instantiate(await readFile(wasmPath), go.importObject)
  await go.run(instance)
}

/** Ends this process when the one that started it is gone. */
function endWithParent(parent) {
  setInterval(() => {
    if (process.ppid !== parent) process.kill(process.pid, 'SIGKILL')
  }, 1000)
}

/** Go's view of the file system: stdin, stdout and stderr. */
function standardStreams() {
  const refuse = (...args) => {
    const error = new Error('not available to the compiler')
    error.code = 'ENOSYS'
    args.at(-1)(error)
  }
  const known = {
    constants: files.constants,
    fstat: (fd, callback) => (fd <= 2 ? files.fstat(fd, callback) : refuse(callback)),
    fsync: (_fd, callback) => callback(null),
    read(fd, buffer, offset, length, position, callback) {
      if (fd !== 0) return refuse(callback)
      return files.read(fd, buffer, offset, length, position, callback)
    },
    write(fd, buffer, offset, length, position, callback) {
      if (fd !== 1 && fd !== 2) return refuse(callback)
      return files.write(fd, buffer, offset, length, position, callback)
    },
    writeSync: (fd, buffer) => files.writeSync(fd, buffer),
  }
  return new Proxy(known, { get: (target, name) => target[name] ?? refuse })
}
