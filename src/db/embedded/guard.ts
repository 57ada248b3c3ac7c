/**
 * The guard: a tiny shell process beside the server that ends it when its last user has gone, however it went.
 *
 * Every process that uses the server holds the write end of one named pipe. The kernel closes it when the process ends,
 * also by kill -9; the guard holds the read end and sees the end of file exactly when nobody is left. No count can go
 * wrong, and nobody has to clean up.
 */

import type { ChildProcess } from 'node:child_process'
import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Home } from './home.ts'

const run = promisify(execFile)
const PIPE = /^users\.[0-9a-f]{12}$/

/**
 * $1 = the pipe's path, the rest = the server's command line; descriptor 3 = the pipe's read end.
 *
 * At end of file the pipe's name goes away first, so that nobody can come in any more. Whoever came in just before has
 * opened the pipe by that name and is seen by the second `read`: a line if it lives, end of file only if nobody is there.
 * Then the name is put back. Otherwise SIGINT: PostgreSQL's fast shutdown. While the outer shell lives it has not collected
 * the server, so the pid is still the server's; without it the server's lock file must say so. (The folder is PGDATA.)
 */
const SCRIPT = `
pipe=$1; shift
"$@" 3<&- &
server=$!
(
  while :; do
    while read -r line <&3; do :; done
    mv "$pipe" "$pipe.closing" 2>/dev/null
    read -r line <&3 || break
    mv "$pipe.closing" "$pipe"
  done
  if kill -0 $$ 2>/dev/null || { read -r pid <postmaster.pid && [ "$pid" = "$server" ]; } 2>/dev/null; then
    kill -INT "$server"
  fi
) &
watch=$!
exec 3<&-
wait "$server"
status=$?
kill "$watch" 2>/dev/null
rm -f "$pipe" "$pipe.closing"
exit "$status"
`

/** A held use of the server. Until released (or the process ends) the server stays. */
export interface Use {
  /** False when the guard has gone, and the server with it. */
  isGuarded(): boolean
  release(): void
}

/** A server that was just spawned; not ready for connections yet. */
export interface SpawnedServer {
  readonly use: Use
  readonly guard: ChildProcess
}

/** Starts the server and its guard, in a session of their own: Ctrl-C in a terminal must not reach them before us. */
export async function spawnGuarded(
  home: Home,
  command: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<SpawnedServer> {
  await removeDeadPipes(home)
  const pipe = join(home.runDir, `users.${randomBytes(6).toString('hex')}`)
  await run('mkfifo', ['-m', '600', pipe], { ...home.user.ids, cwd: '/' })
  // Opening for reading waits for a writer and the other way round; opening for both waits for nobody.
  const both = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK)
  const writeEnd = openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK)
  const readEnd = openSync(pipe, constants.O_RDONLY)
  closeSync(both)
  const log = openSync(home.logFile, 'a', 0o600)
  try {
    const guard = spawn('/bin/sh', ['-c', SCRIPT, 'mcp-policy-gateway-guard', pipe, ...command], {
      ...home.user.ids,
      cwd: home.dataDir,
      env,
      detached: true,
      stdio: ['ignore', log, log, readEnd],
    })
    guard.unref()
    return { use: createUse(writeEnd), guard }
  } finally {
    closeSync(readEnd)
    closeSync(log)
  }
}

/** Becomes a user of the running server; null when there is no guarded one. */
export async function joinServer(home: Home): Promise<Use | null> {
  for (const name of await pipesOf(home)) {
    const use = openPipe(join(home.runDir, name))
    if (use !== null) return use
  }
  return null
}

function openPipe(pipe: string): Use | null {
  let writeEnd: number
  try {
    // Without a reader (no guard) this fails with ENXIO instead of waiting.
    writeEnd = openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW)
  } catch {
    return null
  }
  // The folder is the server user's: nothing but a pipe may be written to on its word, least of all by root.
  if (!fstatSync(writeEnd).isFIFO()) {
    closeSync(writeEnd)
    return null
  }
  const use = createUse(writeEnd)
  if (use.isGuarded()) return use
  use.release()
  return null
}

function createUse(writeEnd: number): Use {
  let isReleased = false
  return {
    isGuarded() {
      try {
        // Says "somebody is here" to a guard that is about to close, and fails with EPIPE when there is none.
        writeSync(writeEnd, '\n')
        return true
      } catch (error) {
        // EAGAIN: the guard has not read for a while, but it is there.
        return (error as NodeJS.ErrnoException).code === 'EAGAIN'
      }
    },
    release() {
      if (!isReleased) closeSync(writeEnd)
      isReleased = true
    },
  }
}

/** True while the pipe of a guarded server is there: somebody else is using it, or it is only just ending. */
export async function hasPipe(home: Home): Promise<boolean> {
  return (await pipesOf(home)).length > 0
}

async function pipesOf(home: Home): Promise<string[]> {
  const names = await readdir(home.runDir).catch(() => [])
  return names.filter((name) => PIPE.test(name))
}

/** Only while holding the start lock, and only when no guarded server was found. */
async function removeDeadPipes(home: Home): Promise<void> {
  const names = (await readdir(home.runDir)).filter((name) => /^users\./.test(name))
  await Promise.all(names.map((name) => rm(join(home.runDir, name), { force: true })))
}
