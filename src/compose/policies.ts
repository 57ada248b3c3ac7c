/** From the configured policies to policies that serve, at the start and again while it runs. */
import type { Pool } from 'pg'
import { storeRevision } from '../audit/revisions.ts'
import type { Config } from '../config/types.ts'
import type { ChangeFeed } from '../db/change-feed.ts'
import type { Log } from '../log.ts'
import type { CompiledPolicy } from '../policy/build.ts'
import type { PolicyRoom } from '../policy/engine.ts'
import { createPolicyRoom } from '../policy/engine.ts'
import type { PolicyReload, ReadPolicy, ReloadResult } from '../policy/reload.ts'
import { createPolicyReload } from '../policy/reload.ts'
import { fingerprintFolder } from '../policy/reload-folder.ts'
import { createReloadableRoom } from '../policy/reload-room.ts'
import { POLICIES_TOPIC } from '../releases/store.ts'
import { deriveKey } from '../secret.ts'
import { policyLimits } from './policy-settings.ts'
import type { PolicySource } from './policy-source.ts'
import { openPolicySource, policySourceKind, readPolicies } from './policy-source.ts'

/** Policies that were read, and what they looked like before. */
interface FirstRead {
  readonly read: ReadPolicy
  readonly seen: string
}

/**
 * Reads a folder before anything else is started: what its authors have to mend is told soonest. null = not a folder.
 * Throws PolicyBuildError with everything that is wrong with it, UsageError.
 */
export async function readFolderFirst(
  config: Config,
  onProgress?: (text: string) => void,
): Promise<FirstRead | null> {
  if ((await policySourceKind(config)) !== 'folder') return null
  const seen = await fingerprintFolder(config.policies)
  return { seen, read: await readPolicies(config, onProgress) }
}

/** What {@link openPolicies} needs. */
export interface PolicyParts {
  readonly config: Config
  /** Of {@link readFolderFirst}. */
  readonly first: FirstRead | null
  readonly db: Pick<Pool, 'query'>
  readonly secret: string
  readonly clock: { nowMs(): number; monotonicMs(): number }
  readonly log: Log
}

/** Policies that serve. */
export interface OpenedPolicies {
  readonly room: PolicyRoom
  /** Of the bundle that serves; null = policies of a folder. */
  sequence(): number | null
  /** Puts what changes in force, for as long as it is open. */
  watch(feed: Pick<ChangeFeed, 'onChange'>, onResult: (result: ReloadResult) => void): PolicyReload
}

/** Opens the room that decides, with the configured budgets. Throws PolicyFault, BundleRefused, UsageError. */
export async function openPolicies(parts: PolicyParts): Promise<OpenedPolicies> {
  const { config, db, clock, log } = parts
  const open = roomOpener(parts)
  let announced = 0
  const source = await openPolicySource({
    ...{ config, db, announced: () => announced },
    tryOut: async (policy) => (await open(policy)).close(),
  })
  warnUnverified(config, source, log)
  const { read, seen } = parts.first ?? (await readFirst(source))
  const room = createReloadableRoom({ first: await open(read.policy), open })
  const store = (policy: CompiledPolicy): Promise<void> =>
    storeRevision(db, { ...policy, loadedAt: new Date(clock.nowMs()) })
  await store(read.policy)
  await source.accept(read)
  if (read.refused !== null) log.error({ error: read.refused.message }, 'the newest policies do not serve')
  let reload: PolicyReload | null = null
  return {
    room,
    sequence: () => (reload === null ? read.release : reload.release())?.sequence ?? null,
    watch(feed, onResult) {
      const watching = createPolicyReload({
        ...{ seen, room, store, onResult, log, clock, release: read.release },
        ...{ look: source.look, read: source.read, accept: source.accept, pace: source.pace },
      })
      if (source.kind === 'database') {
        feed.onChange(POLICIES_TOPIC, async () => {
          announced += 1
          await watching.reload()
        })
      }
      reload = watching
      return watching
    },
  }
}

async function readFirst(source: PolicySource): Promise<FirstRead> {
  const seen = await source.look()
  return { seen, read: await source.read(new AbortController().signal) }
}

function warnUnverified({ policyKeys }: Config, { kind }: PolicySource, log: Log): void {
  if (kind === 'folder' || policyKeys.length > 0) return
  const who = kind === 'database' ? 'the database' : 'the bundle file'
  log.warn({}, `policies are not verified: whoever may write to ${who} decides (policy_keys is empty)`)
}

function roomOpener({
  config,
  secret,
  clock,
  log,
}: PolicyParts): (policy: CompiledPolicy) => Promise<PolicyRoom> {
  const common = {
    inputMacKey: deriveKey(secret, 'input_mac'),
    now: () => BigInt(clock.nowMs()) * 1_000_000n,
    monotonicMs: clock.monotonicMs,
    limits: policyLimits(config),
    keepsTraces: config.audit.enabled,
    log,
  }
  return (policy) => createPolicyRoom({ policy, ...common })
}
