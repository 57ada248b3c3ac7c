/** As whom the server runs. PostgreSQL refuses root, so a gateway that runs as root starts it as an unprivileged user. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { UsageError } from '../../errors.ts'

const run = promisify(execFile)

/** A user of the operating system; null ids = stay who we are. */
export interface ServerUser {
  readonly ids: { readonly uid: number; readonly gid: number } | null
  /** For messages. */
  readonly name: string
}

/** Accounts that exist on most systems and may do nothing else. Never made by us. */
const CANDIDATES = ['postgres', 'nobody']

/** The current user, or for root the first unprivileged candidate. Throws UsageError `embedded_database`. */
export async function findServerUser(): Promise<ServerUser> {
  if (process.getuid?.() !== 0) return { ids: null, name: 'the current user' }
  for (const name of CANDIDATES) {
    const ids = await lookUp(name)
    if (ids !== null) return { ids, name }
  }
  throw new UsageError(
    'embedded_database',
    'PostgreSQL does not run as root, and this system has neither a user `postgres` nor `nobody`. ' +
      'Start the gateway as an ordinary user, or set DATABASE_URL to a PostgreSQL of yours.',
  )
}

async function lookUp(name: string): Promise<{ uid: number; gid: number } | null> {
  try {
    const [uid, gid] = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])])
    const ids = { uid: Number(uid.stdout), gid: Number(gid.stdout) }
    return Number.isSafeInteger(ids.uid) && ids.uid > 0 && Number.isSafeInteger(ids.gid) ? ids : null
  } catch {
    return null
  }
}
