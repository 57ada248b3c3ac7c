/** What can be found out about a server from outside: its lock file, its process, its answer to a connection. */
import { execFile } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Client } from 'pg'
import pg from 'pg'
import type { Connection } from '../connection.ts'
import { toClientConfig } from '../connection.ts'
import type { Home } from './home.ts'

const run = promisify(execFile)

/** `ready` answers; `busy` is starting or ending; `gone` has no process (its lock file may have been left behind). */
export type ServerState = 'ready' | 'busy' | 'gone'

/** Pid in the server's lock file; null when there is none. The process may be long dead, the pid somebody else's. */
export async function readServerPid(home: Home): Promise<number | null> {
  const text = await readFile(lockFile(home), 'utf8').catch(() => null)
  const pid = text === null ? Number.NaN : Number.parseInt(text, 10)
  return Number.isSafeInteger(pid) && pid > 1 ? pid : null
}

/** Looks once. Throws only what {@link tryConnect} throws. */
export async function observeServer(home: Home, connection: Connection): Promise<ServerState> {
  const pid = await readServerPid(home)
  if (pid === null) return 'gone'
  if (await tryConnect(connection)) return 'ready'
  return (await isServerProcess(pid, home)) ? 'busy' : 'gone'
}

/**
 * True when that process is a PostgreSQL on this home's data. Pids repeat, above all in containers: nothing may be
 * signalled because of a number in an old file.
 */
export async function isServerProcess(pid: number, home: Home): Promise<boolean> {
  const command = (await commandOf(pid)) ?? ''
  return command.includes('postgres') && command.includes(home.dataDir)
}

/**
 * Removes what a server that is gone has left behind and its successor would stumble over. PostgreSQL believes a lock file
 * as soon as its pid is alive, be it somebody else's or a dead process that nobody has collected (a container whose first
 * process collects none). Only while holding the start lock, and after {@link observeServer} said `gone`.
 */
export async function removeLeftovers(home: Home): Promise<void> {
  // The socket's folder is ours alone.
  await rm(join(home.runDir, '.s.PGSQL.5432'), { force: true })
  await rm(join(home.runDir, '.s.PGSQL.5432.lock'), { force: true })
  const pid = await readServerPid(home)
  // A file whose process has ended stays: PostgreSQL then also looks for surviving children of the old server.
  if (pid === null || (await commandOf(pid)) === null || (await isServerProcess(pid, home))) return
  await rm(lockFile(home), { force: true })
}

/** True when the server takes this role in. Throws when it refuses the password: waiting would not help. */
export async function tryConnect(connection: Connection): Promise<boolean> {
  const client = openClient(connection)
  try {
    await client.connect()
    return true
  } catch (error) {
    const { code } = error as { readonly code?: string }
    if (code === '28P01') throw error
    return false
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** A client of our own role in the embedded server, bounded, with its late errors swallowed. Not connected yet. */
export function openClient(connection: Connection): Client {
  const limits = { connectTimeoutMs: 5000, statementTimeoutMs: 60_000, lockTimeoutMs: 10_000 }
  const client = new pg.Client(toClientConfig(connection, 'start', limits))
  client.on('error', () => undefined)
  return client
}

function lockFile(home: Home): string {
  return join(home.dataDir, 'postmaster.pid')
}

/** Command line of a process; null when there is no such process. */
async function commandOf(pid: number): Promise<string | null> {
  if (process.platform === 'linux') {
    const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => null)
    return text === null ? null : text.replaceAll('\0', ' ')
  }
  return await run('ps', ['-p', String(pid), '-o', 'args=']).then(
    ({ stdout }) => stdout,
    () => null,
  )
}
