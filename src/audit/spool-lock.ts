/**
 * Who owns a spool: the process that listens on a socket in its folder. The kernel lets go of it however the process ends,
 * and unlike a process id it means the same in every container that shares the volume.
 */
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { UsageError } from '../errors.ts'

/** A lock that is held. */
export interface SpoolLock {
  release(): Promise<void>
}

const NAME = 'lock'
/** macOS allows 103 bytes in a socket's path, Linux 107. */
const MAX_SOCKET_PATH = 103

/** Takes the lock of a folder that is new, so that nobody else can want it. */
export async function holdLock(folder: string): Promise<SpoolLock> {
  const address = await openAddress(folder)
  const server = createServer((socket) => socket.destroy())
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(address.path, resolve)
  })
  server.unref()
  return {
    async release() {
      await new Promise((resolve) => server.close(resolve))
      await address.close()
    },
  }
}

/** Whether a living process holds the lock of a folder. In doubt it does. */
export async function isHeld(folder: string): Promise<boolean> {
  const address = await openAddress(folder)
  try {
    return await new Promise<boolean>((resolve) => {
      const socket = connect(address.path)
      socket.once('connect', () => {
        socket.destroy()
        resolve(true)
      })
      socket.once('error', (error: NodeJS.ErrnoException) =>
        resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
      )
    })
  } finally {
    await address.close()
  }
}

interface Address {
  readonly path: string
  close(): Promise<void>
}

async function openAddress(folder: string): Promise<Address> {
  const close = async (): Promise<void> => undefined
  if (process.platform === 'win32') {
    const name = createHash('sha256').update(folder).digest('hex').slice(0, 32)
    return { path: `\\\\.\\pipe\\mcp-policy-gateway-${name}`, close }
  }
  const path = join(folder, NAME)
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH) return { path, close }
  if (process.platform === 'linux') {
    // The kernel follows this name to the folder, however long the folder's own path is.
    const handle = await open(folder, 'r')
    return { path: `/proc/self/fd/${handle.fd}/${NAME}`, close: () => handle.close() }
  }
  throw new UsageError(
    'config',
    `${folder} is too long a path for a socket (${MAX_SOCKET_PATH} bytes). Choose a shorter audit.spool_dir.`,
  )
}
