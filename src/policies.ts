/** From the configured folder to policies that serve, at the start and again while it runs. Part of the composition, like `main.ts`. */
import { dirname, join } from 'node:path'
import type { Pool } from 'pg'
import { storeRevision } from './audit/revisions.ts'
import type { Config } from './config/types.ts'
import type { Log } from './log.ts'
import type { CompiledPolicy } from './policy/build.ts'
import { buildPolicy } from './policy/build.ts'
import { loadPolicySources } from './policy/build-sources.ts'
import { createCompiler } from './policy/compiler.ts'
import { loadCompilerArtifact } from './policy/compiler-artifact.ts'
import type { PolicyLimits, PolicyRoom } from './policy/engine.ts'
import { createPolicyRoom, DEFAULT_POLICY_LIMITS } from './policy/engine.ts'
import type { PolicyReload, ReloadResult } from './policy/reload.ts'
import { createPolicyReload } from './policy/reload.ts'
import { buildBeside } from './policy/reload-build.ts'
import { fingerprintFolder } from './policy/reload-folder.ts'
import { createReloadableRoom } from './policy/reload-room.ts'
import { DEFAULT_TRACE_BOUNDS } from './policy/trace-render.ts'
import { deriveKey } from './secret.ts'

const PAGES_PER_MIB = 16

/** Policies read from a folder. */
export interface LoadedPolicies {
  readonly policy: CompiledPolicy
  /** The folder as it was before it was read. */
  readonly seen: string
}

/** Reads and builds the configured folder. Throws PolicyBuildError with everything that is wrong with it. */
export async function loadPolicies(
  config: Config,
  onProgress?: (text: string) => void,
): Promise<LoadedPolicies> {
  const cacheDir = cacheFolder(config)
  onProgress?.('compiling the policies')
  const seen = await fingerprintFolder(config.policies)
  const sources = await loadPolicySources(config.policies)
  const compiler = createCompiler({ artifact: await loadCompilerArtifact(cacheDir) })
  try {
    return { policy: await buildPolicy(sources, { compiler, cacheDir }), seen }
  } finally {
    await compiler.close()
  }
}

/** What {@link openPolicyRoom} needs. */
export interface PolicyRoomParts {
  readonly config: Config
  readonly policy: CompiledPolicy
  readonly secret: string
  readonly clock: { nowMs(): number; monotonicMs(): number }
  readonly log: Log
}

/** The room that decides, with the configured budgets; its policy can be replaced. Throws PolicyFault. */
export async function openPolicyRoom(parts: PolicyRoomParts): Promise<PolicyRoom> {
  const common = {
    inputMacKey: deriveKey(parts.secret, 'input_mac'),
    now: () => BigInt(parts.clock.nowMs()) * 1_000_000n,
    monotonicMs: parts.clock.monotonicMs,
    limits: policyLimits(parts.config),
    log: parts.log,
  }
  const open = (policy: CompiledPolicy): Promise<PolicyRoom> => createPolicyRoom({ policy, ...common })
  return createReloadableRoom({ first: await open(parts.policy), open })
}

/** The configured budgets of an evaluation. */
export function policyLimits({ limits }: Config): PolicyLimits {
  return {
    ...DEFAULT_POLICY_LIMITS,
    fuel: limits.policyFuel,
    memoryPages: limits.policyMemoryMib * PAGES_PER_MIB,
    maxInputBytes: limits.maxInputBytes,
    trace: { ...DEFAULT_TRACE_BOUNDS, maxBytes: limits.maxTraceBytes, maxEvents: limits.maxTraceEvents },
  }
}

/** What {@link watchPolicies} needs. */
export interface WatchOptions {
  readonly config: Config
  readonly loaded: LoadedPolicies
  readonly room: PolicyRoom
  readonly db: Pick<Pool, 'query'>
  readonly clock: { nowMs(): number; monotonicMs(): number }
  readonly log: Log
  readonly onResult: (result: ReloadResult) => void
}

/** Puts what changes in the folder in force, for as long as it is open. */
export function watchPolicies(options: WatchOptions): PolicyReload {
  const { config, loaded, room, db, clock, log, onResult } = options
  const folder = config.policies
  return createPolicyReload({
    folder,
    seen: loaded.seen,
    build: (signal) => buildBeside({ folder, cacheDir: cacheFolder(config), signal }),
    store: (policy) => storeRevision(db, { ...policy, loadedAt: new Date(clock.nowMs()) }),
    room,
    onResult,
    log,
    clock,
  })
}

/** Where finished builds and the unpacked compiler are kept: beside the configuration. */
export function cacheFolder(config: Config): string {
  return join(dirname(config.file), '.gateway', 'cache')
}
