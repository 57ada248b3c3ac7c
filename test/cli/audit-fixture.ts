/** `gateway audit ..` on a database of the test's own, with rows written by the audit room itself. */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { createAuditRoom } from '../../src/audit/writer.ts'
import type { AuditEvent } from '../../src/gateway/types.ts'
import { newId, removeSpools, spooling } from '../audit/fixtures.ts'
import type { CliResult } from '../support/cli.ts'
import { runCli, withEnvironment } from '../support/cli.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'

/** A working folder and its database. */
export interface AuditPlace {
  readonly database: TestDatabase
  readonly home: string
  readonly configFile: string
  readonly environment: Readonly<Record<string, string>>
  /** Stores rows and waits until they are committed. */
  store(...events: readonly AuditEvent[]): Promise<void>
  /** Runs `gateway audit ARGS`. */
  run(...args: readonly string[]): Promise<CliResult>
  remove(): Promise<void>
}

/** Makes a place without rows. */
export async function createAuditPlace(): Promise<AuditPlace> {
  const database = await createTestDatabase()
  const home = await mkdtemp(join(tmpdir(), 'gateway-audit-'))
  const configFile = join(home, 'gateway.yaml')
  await mkdir(join(home, 'policies'))
  await writeFile(
    configFile,
    stringify({
      database: { url: '${AUDIT_PLACE_URL}', migrate_url: '${AUDIT_PLACE_MIGRATE_URL}' },
      secret: '${AUDIT_PLACE_SECRET}',
      upstreams: { github: { url: 'http://127.0.0.1:9/mcp' } },
    }),
  )
  const environment = {
    AUDIT_PLACE_URL: database.url,
    AUDIT_PLACE_MIGRATE_URL: database.migrateUrl,
    AUDIT_PLACE_SECRET: randomBytes(32).toString('base64'),
  }
  const quiet = () => undefined
  const openWriter = async () => {
    const writer = createAuditRoom({
      pool: database.pool,
      writerId: randomUUID(),
      newId,
      clock: { nowMs: Date.now },
      log: { info: quiet, warn: quiet, error: quiet },
      ...spooling(),
    })
    await writer.start()
    return writer
  }
  return {
    ...{ database, home, configFile, environment },
    async store(...events) {
      const writer = await openWriter()
      await Promise.all(events.map((event) => writer.end(event)))
      await writer.close()
    },
    run: (...args) => withEnvironment(environment, () => runCli(['audit', ...args, '--config', configFile])),
    async remove() {
      await database.drop()
      removeSpools()
      await rm(home, { recursive: true, force: true })
    },
  }
}
