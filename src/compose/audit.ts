/** The audit room, its anchors, and the days it keeps. */
import { createAnchors } from '../audit/anchors.ts'
import type { Signer } from '../audit/signing.ts'
import type { AuditWriter } from '../audit/writer.ts'
import type { AuditRoomParts } from './audit-room.ts'
import { openAuditRoom } from './audit-room.ts'
import type { Building, Ground } from './building.ts'
import type { OpenedDatabase } from './database.ts'
import { openRetention } from './retention.ts'

/** Makes and starts the audit room; null when audit is off. */
export async function openAudit(
  { config, options, own }: Building,
  ground: Ground,
  parts: Pick<AuditRoomParts, 'database' | 'pool' | 'signer' | 'redaction' | 'onRow'>,
): Promise<AuditWriter | null> {
  if (!config.audit.enabled) {
    options.log.warn({}, 'audit is off: attempts leave no row (audit.enabled: false)')
    return null
  }
  const { clock, newId, processId: writerId } = ground
  const anchors = own(createAnchors({ targets: config.audit.anchors, log: options.log }), (opened) =>
    opened.close(),
  )
  if (!parts.signer) options.log.warn({}, 'the audit log is not signed (audit.signing_key_file)')
  const writer = await openAuditRoom(config, {
    ...{ ...parts, writerId, newId, clock },
    log: options.log,
    onCheckpoint: anchors.record,
  })
  return own(writer, async (opened) => void (await opened.close()))
}

/** Days that are older than they have to be kept are removed, by the role that may. */
export function keepAuditDays(
  { config, options, own }: Building,
  { clock }: Ground,
  owner: OpenedDatabase['owner'],
  signer: Signer | null,
): void {
  const { retentionDays, archiveDir } = config.audit
  if (retentionDays === null) return
  const parts = {
    owner,
    keepDays: retentionDays,
    archiveFolder: archiveDir,
    signer,
    nowMs: clock.nowMs,
    log: options.log,
  }
  own(openRetention(parts), (opened) => opened.close())
}
