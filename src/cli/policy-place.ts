/** Which policies a command is about, and with what it builds them. */
import { statSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { cacheFolder, policyLimits } from '../compose/policy-settings.ts'
import { loadConfig } from '../config/load.ts'
import type { Config } from '../config/types.ts'
import { PUBLISHED_POLICIES } from '../config/types.ts'
import { UsageError } from '../errors.ts'
import type { Compiler, CompilerOptions } from '../policy/compiler.ts'
import { createCompiler } from '../policy/compiler.ts'
import { loadCompilerArtifact } from '../policy/compiler-artifact.ts'
import type { PolicyLimits } from '../policy/engine.ts'
import { DEFAULT_POLICY_LIMITS } from '../policy/engine.ts'
import type { CommandArgs } from './context.ts'

/** Traces are not stored here but explain; what a decision may cost is as configured. */
const WHOLE_TRACE: PolicyLimits['trace'] = { maxBytes: 1 << 20, maxEvents: 10_000 }

/** Options of the commands that work on a folder. */
export interface FolderArgs extends CommandArgs {
  /** A folder instead of the configured one. */
  readonly dir?: string | undefined
}

/** A policies folder and what belongs to it. */
export interface PolicyPlace {
  readonly folder: string
  /** Folder of finished builds, the same as the gateway's; null without a configuration. */
  readonly cacheDir: string | null
  /** The configured budgets, or the default ones. */
  readonly limits: PolicyLimits
  /** The configuration whose policies these are; null for a folder that was named without one. */
  readonly config: Config | null
}

/** The folder that is named, else the configured one. A folder that is named needs no configuration. Throws UsageError. */
export function findPolicies(args: FolderArgs): PolicyPlace {
  const isConfigured = args.dir === undefined || args.config !== undefined
  const config = isConfigured ? configOf(args) : configIfAny()
  const folder = args.dir ?? config?.policies
  if (folder === undefined) throw new UsageError('usage', 'Name a policies folder.')
  if (folder === PUBLISHED_POLICIES || statSync(folder, { throwIfNoEntry: false })?.isFile() === true)
    throw new UsageError('usage', `${folder} is no folder: name the one in which the policies are written.`)
  return {
    folder,
    cacheDir: config === null ? null : cacheFolder(config),
    limits: { ...(config === null ? DEFAULT_POLICY_LIMITS : policyLimits(config)), trace: WHOLE_TRACE },
    config: isConfigured ? config : null,
  }
}

function configOf(args: FolderArgs): Config {
  return loadConfig({ file: args.config }).config
}

/** Secrets that a configuration asks for are not there where policies are tested. */
function configIfAny(): Config | null {
  try {
    return loadConfig({}).config
  } catch (error) {
    if (error instanceof UsageError) return null
    throw error
  }
}

/** Runs something with a compiler that ends with it. */
export function withCompiler<T>(place: PolicyPlace, use: (compiler: Compiler) => Promise<T>): Promise<T> {
  return withCompilers(place, ([first]) => use(first))
}

/** Compilers that work at the same time; the same one twice where there is one processor. */
export type CompilerPair = readonly [Compiler, Compiler]

/** Runs something with two compilers that end with it. One that is not asked anything is not started. */
export async function withCompilers<T>(
  place: PolicyPlace,
  use: (compilers: CompilerPair) => Promise<T>,
  options: Pick<CompilerOptions, 'lasting' | 'idleMs'> = {},
): Promise<T> {
  const artifact = await loadCompilerArtifact(place.cacheDir ?? temporaryFolder())
  const first = createCompiler({ artifact, ...options })
  const second = availableParallelism() > 1 ? createCompiler({ artifact, ...options }) : first
  try {
    return await use([first, second])
  } finally {
    await Promise.all([first.close(), second.close()])
  }
}

/** Where the compiler is unpacked when there is no build. What is found there is compared with the recorded digest. */
function temporaryFolder(): string {
  return join(tmpdir(), `mcp-policy-gateway-compiler-${process.getuid?.() ?? 'user'}`)
}
