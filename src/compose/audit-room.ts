/** Opening the audit room: where its spool lies. */
import { dirname, join } from 'node:path'
import type { AuditRoomOptions } from '../audit/limits.ts'
import type { AuditWriter } from '../audit/writer.ts'
import { createAuditRoom } from '../audit/writer.ts'
import type { Config } from '../config/types.ts'
import { defaultDataHome } from '../db/embedded/home.ts'
import type { OpenedDatabase } from './database.ts'

/** What the room gets besides the configuration. */
export interface AuditRoomParts
  extends Pick<
    AuditRoomOptions,
    'pool' | 'writerId' | 'newId' | 'clock' | 'log' | 'signer' | 'redaction' | 'onRow' | 'onCheckpoint'
  > {
  readonly database: Pick<OpenedDatabase, 'home'>
}

/** Makes and starts the room. Throws UsageError `config` when its folder cannot be used. */
export async function openAuditRoom(config: Config, parts: AuditRoomParts): Promise<AuditWriter> {
  const { mode, onFailure, redactKeys, spoolMaxBytes: maxBytes } = config.audit
  const { database, ...rest } = parts
  const dir = await spoolDir(config, database.home)
  const room = createAuditRoom({ ...rest, mode, onFailure, redactKeys, spool: { dir, maxBytes } })
  await room.start()
  return room
}

/** The folder of the spools: configured, else inside the embedded database's home, else in the project's own state. */
export async function spoolDir({ audit, file }: Config, home: string | null): Promise<string> {
  if (audit.spoolDir !== null) return audit.spoolDir
  if (home !== null) return join(home, 'spool')
  const state = await defaultDataHome(dirname(file))
  // Beside the folder that an embedded database would have.
  return process.getuid?.() === 0 ? `${state}-spool` : join(dirname(state), 'spool')
}
