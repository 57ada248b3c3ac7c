/** What commands share: their common options, the configuration, and a database opened for the length of one command. */
import { dirname } from 'node:path'
import type { Argv } from 'yargs'
import { loadConfig, processEnvironment } from '../config/load.ts'
import type { Config } from '../config/types.ts'
import type { Connection } from '../db/connection.ts'
import { defaultDataHome } from '../db/embedded/home.ts'
import { startEmbeddedPostgres } from '../db/embedded.ts'
import { migrate } from '../db/migrate.ts'
import type { Pools } from '../db/pools.ts'
import { createPools } from '../db/pools.ts'
import type { Output, OutputOptions, Streams } from './output.ts'
import { createOutput } from './output.ts'
import type { Progress } from './progress.ts'

/** Options every command has. Commands that need more extend it. */
export interface CommandArgs extends OutputOptions {
  /** `--config FILE`. */
  readonly config?: string | undefined
}

/**
 * What a file of commands (`keys.ts`, `audit.ts`, ..) exports: it adds its commands to the parser. Handlers print through
 * {@link Output}, throw UsageError for what the person can mend (`check_failed` = exit code 1, everything else 2), and
 * never call `process.exit`.
 */
export type CommandGroup = (parser: Argv<CommandArgs>, streams?: Streams) => Argv<CommandArgs>

/** The two roles of a database, and how to let go of it. */
export interface OpenedDatabase {
  /** Owns the tables. */
  readonly owner: Connection
  /** What everything but migrations works as. */
  readonly runtime: Connection
  stop(): Promise<void>
}

/** What a command that needs the database gets. */
export interface DatabaseContext {
  readonly config: Config
  readonly out: Output
  /** All as the runtime role; commands use `general`. */
  readonly pools: Pools
}

/**
 * Opens the configured database (starting or adopting the embedded one), brings the schema up to date, runs `use` and
 * closes everything in reverse. Throws UsageError: `config`, `unreachable`, `embedded_database`, `schema_newer`, ..
 */
export async function withDatabase<T>(
  args: CommandArgs,
  use: (context: DatabaseContext) => Promise<T>,
  streams?: Streams,
): Promise<T> {
  const out = createOutput(args, streams)
  const { config } = loadConfig({ file: args.config })
  const database = await out.progress('opening the database', (progress) => openDatabase(config, progress))
  try {
    await out.progress('migrating the database', (progress) =>
      migrate({ owner: database.owner, runtime: database.runtime, onProgress: progress.step }),
    )
    const pools = createPools({
      runtime: database.runtime,
      onIdleError: (_use, error) => out.note(`database connection lost: ${error.message}`),
    })
    try {
      return await use({ config, out, pools })
    } finally {
      await pools.close()
    }
  } finally {
    await database.stop()
  }
}

/** The configured server, or the embedded one started or adopted. Does not look at the schema. */
export async function openDatabase(config: Config, progress: Progress): Promise<OpenedDatabase> {
  const { url, migrateUrl, dataDir, binDir } = config.database
  if (url !== null) {
    return {
      owner: { connectionString: migrateUrl ?? url },
      runtime: { connectionString: url },
      stop: async () => undefined,
    }
  }
  const embedded = await startEmbeddedPostgres({
    dataHome: dataDir ?? (await defaultDataHome(dirname(config.file))),
    binDir,
    path: processEnvironment()['PATH'] ?? '',
    onProgress: progress.step,
  })
  return { owner: embedded.owner, runtime: embedded.runtime, stop: embedded.stop }
}
