/**
 * The door of this room: looks at everything a gateway needs, changes nothing, and tells what it finds. Like `main.ts` it
 * composes; unlike it, it goes on when something fails.
 */
import { lstat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { OpenedDatabase } from '../compose/database.ts'
import { openDatabase } from '../compose/database.ts'
import type { LoadedConfig, LoadOptions } from '../config/load.ts'
import type { Config } from '../config/types.ts'
import { defaultDataHome } from '../db/embedded/home.ts'
import { createPools } from '../db/pools.ts'
import { checkDatabase, toDatabaseFailure } from './database.ts'
import type { CheckName, Finding } from './finding.ts'
import { CHECKS, toFinding, toSkipped } from './finding.ts'
import { checkListeners } from './listeners.ts'
import { checkConfig, checkNode, checkPolicies } from './own.ts'
import { checkAudit, checkKeys, noKeys } from './stored.ts'
import { checkUpstreams } from './upstreams.ts'

/** What {@link examine} takes. */
export interface DoctorOptions {
  /** Where the configuration comes from. */
  readonly load: LoadOptions
  /** Only this; null = everything. */
  readonly only: { readonly check: CheckName; readonly subject: string | null } | null
  readonly nowMs: () => number
  readonly onProgress: (text: string) => void
}

/** Looks at everything that is wanted. What is wrong is a finding; only a fault of ours rejects. */
export async function examine(options: DoctorOptions): Promise<readonly Finding[]> {
  const wants = (check: CheckName): boolean => options.only === null || options.only.check === check
  const config = checkConfig(options.load)
  const first = [...(wants('node') ? [checkNode()] : []), config.finding]
  if (config.loaded === null) {
    const others = CHECKS.filter((check) => check !== 'node' && check !== 'config' && wants(check))
    return [
      ...first,
      ...others.map((check) => toSkipped(check, 'not looked at: the configuration comes first')),
    ]
  }
  const found = await examineConfigured(config.loaded, wants, options)
  // Asked for one thing only, the configuration is worth a line when something is wrong with it.
  const isWanted = ({ check, state }: Finding): boolean => wants(check) || state === 'fail'
  return [...first, ...found].filter(isWanted)
}

async function examineConfigured(
  loaded: LoadedConfig,
  wants: (check: CheckName) => boolean,
  options: DoctorOptions,
): Promise<readonly Finding[]> {
  const wantsStored = wants('postgres') || wants('audit') || wants('keys')
  const subject = options.only?.subject ?? null
  options.onProgress('building the policies, asking the database and the upstreams')
  const [policies, stored, upstreams, listeners] = await Promise.all([
    wants('policies') || wants('listen') ? checkPolicies(loaded) : null,
    wantsStored ? examineDatabase(loaded.config, options) : [],
    wants('upstream') ? checkUpstreams(loaded, subject, options.onProgress) : [],
    wants('listen') || wants('policies') ? checkListeners(loaded) : null,
  ])
  const found = [
    ...(policies === null ? [] : [policies.finding]),
    ...differentPolicies(policies?.revision ?? null, listeners?.servingRevision ?? null),
    ...stored,
    ...upstreams,
    ...(listeners?.findings ?? []),
  ].filter(({ check }) => wants(check))
  return CHECKS.flatMap((check) => found.filter((finding) => finding.check === check))
}

function differentPolicies(inFolder: string | null, serving: string | null): Finding[] {
  if (inFolder === null || serving === null || inFolder === serving) return []
  const text = `the running gateway serves ${serving}, the folder holds ${inFolder}`
  const fix = 'See its log; it reads the folder again on SIGHUP'
  const troubles = [{ state: 'warn', text, fix } as const]
  return [
    toFinding({ check: 'policies', subject: 'serving', title: 'policies in force', facts: [], troubles }),
  ]
}

/** Opens the database as it is: no schema is touched, and an embedded one that is not there yet is not made. */
async function examineDatabase(config: Config, options: DoctorOptions): Promise<readonly Finding[]> {
  if (config.database.url === null && !(await hasEmbedded(config))) {
    const finding = toFinding({
      check: 'postgres',
      title: 'postgres',
      facts: ['embedded', 'made at the first start'],
    })
    return [finding, toSkipped('audit', 'no database yet'), noKeys()]
  }
  let database: OpenedDatabase
  try {
    database = await openDatabase(config, options.onProgress)
  } catch (error) {
    return withoutTables(toDatabaseFailure(error))
  }
  try {
    const { findings, hasTables } = await checkDatabase(database, options.nowMs)
    if (!hasTables) return [...findings, ...withoutTables()]
    return [...findings, ...(await examineTables(database, config, options))]
  } finally {
    await database.stop()
  }
}

function withoutTables(...findings: readonly Finding[]): readonly Finding[] {
  const why = 'not looked at: the database comes first'
  return [...findings, toSkipped('audit', why), toSkipped('keys', why)]
}

async function examineTables(
  database: OpenedDatabase,
  config: Config,
  { nowMs }: DoctorOptions,
): Promise<readonly Finding[]> {
  const pools = createPools({ runtime: database.runtime, onIdleError: () => undefined })
  try {
    return [await checkAudit(pools.general, config), await checkKeys(pools.general, config, nowMs())]
  } catch (error) {
    return withoutTables(toDatabaseFailure(error))
  } finally {
    await pools.close()
  }
}

async function hasEmbedded(config: Config): Promise<boolean> {
  const home = config.database.dataDir ?? (await defaultDataHome(dirname(config.file)))
  return (await lstat(join(home, 'data')).catch(() => null)) !== null
}
