/** Opening the configured database: the one way for the gateway and for commands. */
import { dirname } from 'node:path'
import { processEnvironment } from '../config/load.ts'
import type { Config } from '../config/types.ts'
import type { Connection } from '../db/connection.ts'
import { defaultDataHome } from '../db/embedded/home.ts'
import { startEmbeddedPostgres } from '../db/embedded.ts'
import { migrate } from '../db/migrate.ts'

/** The two roles of a database, and how to let go of it. */
export interface OpenedDatabase {
  /** Owns the tables. */
  readonly owner: Connection
  /** What everything but migrations works as. */
  readonly runtime: Connection
  /** Folder that is the embedded server's own, for what belongs to it; null with a configured server. */
  readonly home: string | null
  stop(): Promise<void>
}

/** Connects to the configured server, or starts or adopts the embedded one. Does not look at the schema. */
export async function openDatabase(
  config: Config,
  onProgress: (text: string) => void = () => undefined,
): Promise<OpenedDatabase> {
  const { url, migrateUrl, dataDir, binDir } = config.database
  if (url !== null) {
    return {
      owner: { connectionString: migrateUrl ?? url },
      runtime: { connectionString: url },
      home: null,
      stop: async () => undefined,
    }
  }
  const embedded = await startEmbeddedPostgres({
    dataHome: dataDir ?? (await defaultDataHome(dirname(config.file))),
    binDir,
    path: processEnvironment()['PATH'] ?? '',
    onProgress,
  })
  return { owner: embedded.owner, runtime: embedded.runtime, home: embedded.dataHome, stop: embedded.stop }
}

/** Opens the database and brings its schema up to date; lets go of it again when that fails. */
export async function openMigratedDatabase(
  config: Config,
  onProgress: (text: string) => void = () => undefined,
): Promise<OpenedDatabase> {
  const database = await openDatabase(config, onProgress)
  try {
    await migrate({ owner: database.owner, runtime: database.runtime, onProgress })
    return database
  } catch (error) {
    await database.stop()
    throw error
  }
}
