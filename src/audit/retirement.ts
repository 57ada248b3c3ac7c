/** What is kept of rows that were removed because of their age: where the chain of each writer goes on. */
import type { RecordRetirement } from './retention.ts'
import type { Signer } from './signing.ts'
import { INSERT_KEY, signRetirement } from './signing.ts'

/** Writes the signed records that {@link verifyLog} asks for. `signer` null: they are written unsigned. */
export function createRetirementRecord(signer: Signer | null, nowMs: () => number): RecordRetirement {
  return async (db, { day, spans, archive }) => {
    if (signer !== null) await db.query(INSERT_KEY, [signer.keyId, signer.publicKey])
    const about = {
      day,
      retiredAt: new Date(nowMs()).toISOString(),
      archive: archive?.file ?? null,
      archiveSha256: archive?.sha256 ?? null,
    }
    const records = spans.map((span) => signRetirement({ ...span, ...about }, signer))
    await db.query(
      `insert into audit_retired (writer, from_seq, to_seq, rows, last_leaf, day, retired_at, archive, archive_sha256, key_id, signature)
       select writer, "fromSeq", "toSeq", rows, decode("lastLeaf", 'hex'), day, "retiredAt", archive,
         decode("archiveSha256", 'hex'), "keyId", signature
       from jsonb_to_recordset($1::jsonb) as r(writer uuid, "fromSeq" bigint, "toSeq" bigint, rows bigint, "lastLeaf" text,
         day date, "retiredAt" timestamptz, archive text, "archiveSha256" text, "keyId" text, signature text)`,
      [JSON.stringify(records)],
    )
  }
}
