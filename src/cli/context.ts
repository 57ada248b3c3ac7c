/** What commands share: their common options, the configuration, and a database opened for the length of one command. */
import type { Argv } from 'yargs'
import { openMigratedDatabase } from '../compose/database.ts'
import { loadConfig } from '../config/load.ts'
import type { Config } from '../config/types.ts'
import type { Connection } from '../db/connection.ts'
import type { Pools } from '../db/pools.ts'
import { createPools } from '../db/pools.ts'
import type { Output, OutputOptions, Streams } from './output.ts'
import { createOutput } from './output.ts'

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

/** What a command that needs the database gets. */
export interface DatabaseContext {
  readonly config: Config
  readonly out: Output
  /** All as the runtime role; commands use `general`. */
  readonly pools: Pools
  /** The role that owns the tables. */
  readonly owner: Connection
  /** Folder of the embedded server; null with a configured one. */
  readonly home: string | null
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
  const database = await out.progress('opening the database', (progress) =>
    openMigratedDatabase(config, progress.step),
  )
  try {
    const pools = createPools({
      runtime: database.runtime,
      onIdleError: (_use, error) => out.note(`database connection lost: ${error.message}`),
    })
    try {
      return await use({ config, out, pools, home: database.home, owner: database.owner })
    } finally {
      await pools.close()
    }
  } finally {
    await database.stop()
  }
}
