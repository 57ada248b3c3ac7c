/**
 * A connection pooler in transaction mode, as far as a client can tell: it lets everybody in, hands out cancel keys of its
 * own, and runs each statement of each client on whichever of its server sessions is free. Simple queries only.
 */

import { mkdtemp, rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Client } from 'pg'
import pg from 'pg'
import type { ConnectionParts } from '../../src/db/connection.ts'

export interface PoolingProxy {
  /** The same database, through the proxy. */
  readonly connection: ConnectionParts
  close(): Promise<void>
}

/** @param sessions how many server sessions it keeps and takes turns with */
export async function startPoolingProxy(behind: ConnectionParts, sessions: number): Promise<PoolingProxy> {
  const servers = await Promise.all(Array.from({ length: sessions }, () => connect(behind)))
  const folder = await mkdtemp('/tmp/gateway-proxy-')
  let turn = 0
  const listener = createServer((socket) => {
    serve(socket, () => servers[turn++ % servers.length]!)
  })
  await new Promise<void>((resolve) => listener.listen(join(folder, '.s.PGSQL.5432'), resolve))
  return {
    connection: { ...behind, host: folder },
    async close() {
      await new Promise((resolve) => listener.close(resolve))
      await Promise.all(servers.map((server) => server.end()))
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function connect(connection: ConnectionParts): Promise<Client> {
  const client = new pg.Client({ ...connection })
  await client.connect()
  return client
}

function serve(socket: Socket, nextServer: () => Client): void {
  let pending = Buffer.alloc(0)
  let isStarted = false
  socket.on('error', () => undefined)
  socket.on('data', (chunk) => {
    pending = Buffer.concat([pending, chunk])
    for (;;) {
      const offset = isStarted ? 1 : 0
      if (pending.length < offset + 4) return
      const length = offset + pending.readInt32BE(offset)
      if (pending.length < length) return
      const message = pending.subarray(0, length)
      pending = pending.subarray(length)
      if (!isStarted) {
        isStarted = true
        const key = Buffer.alloc(8)
        key.writeInt32BE(4_000_000, 0)
        socket.write(Buffer.concat([frame('R', Buffer.alloc(4)), frame('K', key), ready()]))
      } else if (message[0] === 'Q'.charCodeAt(0)) {
        void answer(socket, nextServer(), message.subarray(5, -1).toString('utf8'))
      } else if (message[0] === 'X'.charCodeAt(0)) {
        socket.end()
      }
    }
  })
}

async function answer(socket: Socket, server: Client, text: string): Promise<void> {
  const { rows, fields } = await server.query({ text, rowMode: 'array' })
  const description = [int16(fields.length)]
  for (const field of fields) {
    const facts = Buffer.alloc(18)
    facts.writeInt32BE(field.dataTypeID, 6)
    description.push(Buffer.from(`${field.name}\0`), facts)
  }
  const data = (rows as unknown[][]).map((row) => {
    const cells = row.flatMap((cell) => {
      const value = Buffer.from(String(cell))
      return [int32(value.length), value]
    })
    return frame('D', Buffer.concat([int16(row.length), ...cells]))
  })
  const done = frame('C', Buffer.from('SELECT 1\0'))
  socket.write(Buffer.concat([frame('T', Buffer.concat(description)), ...data, done, ready()]))
}

function frame(kind: string, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(kind), int32(body.length + 4), body])
}

function ready(): Buffer {
  return frame('Z', Buffer.from('I'))
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}
