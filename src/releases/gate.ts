/** Which signed release may be put in force: never an older one than the fleet has had, across restarts as well. */
import type { Pool } from 'pg'
import type { Release } from './store.ts'
import { lastAccepted, recordAccepted } from './store.ts'

/** Remembers the highest sequence, in the database and in this process. */
export interface ReleaseGate {
  /** Why a release may not follow what was accepted, as the end of a sentence; null = it may. Rejects when the database is away. */
  refusal(release: Release): Promise<string | null>
  /** Remembers a release that is in force now. */
  accept(release: Release): Promise<void>
}

/** Makes a gate. */
export function createReleaseGate(db: Pick<Pool, 'query'>): ReleaseGate {
  /** What this process has had: a database that was set back does not set it back. */
  let own: Release | null = null
  return {
    async refusal(release) {
      if (release.sequence === 0) return 'it was signed without a sequence: build it with --sequence'
      const accepted = await lastAccepted(db)
      return compare(release, own) ?? compare(release, accepted)
    },
    async accept(release) {
      if (own === null || release.sequence > own.sequence) own = release
      await recordAccepted(db, release)
    },
  }
}

function compare(release: Release, accepted: Release | null): string | null {
  if (accepted === null || release.sequence > accepted.sequence) return null
  if (release.sequence < accepted.sequence)
    return `its sequence ${release.sequence} is lower than ${accepted.sequence}, which was in force`
  if (release.digest === accepted.digest) return null
  return `sequence ${release.sequence} was in force with another content`
}
