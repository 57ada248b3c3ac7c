/** Lets one process at a time start or adopt the server of a home. Gone with its holder, also after kill -9. */

import { randomBytes } from 'node:crypto'
import { lstat, rename, rm } from 'node:fs/promises'
import type { Server } from 'node:net'
import { connect, createServer } from 'node:net'
import { UsageError } from '../../errors.ts'

const POLL_MS = 50

/** What {@link withStartLock} needs. */
export interface StartLockOptions {
  /** Path of the socket that is bound while the lock is held. */
  readonly path: string
  readonly timeoutMs: number
  /** Called once when somebody else holds the lock. */
  readonly onWait: () => void
}

/**
 * Runs `use` while holding the lock. A bound socket is the lock: the kernel lets one process bind a path, and a path
 * nobody listens on any more was left behind by a dead one. (A pid in a file proves nothing where pids repeat.)
 */
export async function withStartLock<T>(options: StartLockOptions, use: () => Promise<T>): Promise<T> {
  const server = await acquire(options)
  try {
    return await use()
  } finally {
    // Also removes the path.
    await new Promise((resolve) => server.close(resolve))
  }
}

async function acquire(options: StartLockOptions): Promise<Server> {
  const deadline = performance.now() + options.timeoutMs
  let hasWaited = false
  for (;;) {
    const server = await bind(options.path)
    if (server !== null) return server
    if (await removeIfDead(options.path)) continue
    if (!hasWaited) options.onWait()
    hasWaited = true
    if (performance.now() > deadline) {
      throw new UsageError(
        'embedded_database',
        `Another process has been starting the embedded database for ${Math.round(options.timeoutMs / 1000)} s ` +
          `(it holds ${options.path}). End it, then start again.`,
      )
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** null when the path is taken. */
async function bind(path: string): Promise<Server | null> {
  const server = createServer((socket) => socket.destroy())
  return await new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(null)
      else reject(error)
    })
    server.listen(path, () => resolve(server))
  })
}

/** True when it is worth trying to bind again at once. */
async function removeIfDead(path: string): Promise<boolean> {
  const before = await lstat(path).catch(() => null)
  if (before === null) return true
  if (!(await isAbandoned(path))) return false
  // Moved before it is removed: should another process have taken the lock since, its socket goes back in its place.
  const aside = `${path}.${randomBytes(6).toString('hex')}`
  await rename(path, aside).catch(() => undefined)
  const moved = await lstat(aside).catch(() => null)
  if (moved !== null && moved.ino !== before.ino) await rename(aside, path)
  else await rm(aside, { force: true })
  return true
}

async function isAbandoned(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(false)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'))
  })
}
