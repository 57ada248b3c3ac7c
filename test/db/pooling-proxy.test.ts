import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import { migrate } from '../../src/db/migrate.ts'
import { UsageError } from '../../src/errors.ts'
import { startPoolingProxy } from '../support/pooling-proxy.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'

describe('a connection pooler in front of the database', () => {
  let database: TestDatabase

  before(async () => {
    database = await createTestDatabase()
  })

  after(async () => {
    await database.drop()
  })

  for (const [sessions, how] of [
    [1, 'shares a session between clients'],
    [2, 'moves clients between sessions'],
  ] as const) {
    it(`is refused by name when it ${how}`, async () => {
      const proxy = await startPoolingProxy(database.owner, sessions)
      const outcome = await migrate({ owner: proxy.connection, runtime: proxy.connection }).catch(
        (error: unknown) => error,
      )
      await proxy.close()
      expect(outcome).to.be.instanceOf(UsageError)
      expect((outcome as UsageError).code).to.equal('pooling_proxy')
      expect((outcome as UsageError).message).to.match(/PgBouncer with pool_mode=transaction/)
    })
  }

  it('is named when it does not let start-up parameters through', async () => {
    const folder = await mkdtemp('/tmp/gateway-proxy-')
    const body = Buffer.from('SFATAL\0C08P01\0Munsupported startup parameter: statement_timeout\0\0')
    const head = Buffer.from('E\0\0\0\0')
    head.writeInt32BE(body.length + 4, 1)
    const listener = createServer((socket) => {
      socket.once('data', () => socket.end(Buffer.concat([head, body])))
    })
    await new Promise<void>((resolve) => listener.listen(join(folder, '.s.PGSQL.5432'), resolve))
    const connection = { ...database.owner, host: folder }
    const outcome = await migrate({ owner: connection, runtime: connection }).catch((error: unknown) => error)
    await new Promise((resolve) => listener.close(resolve))
    await rm(folder, { recursive: true })
    expect((outcome as UsageError).code).to.equal('pooling_proxy')
    expect((outcome as UsageError).message).to.match(/statement_timeout/)
  })
})
