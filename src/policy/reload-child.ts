/**
 * The program that builds a policies folder beside the running gateway (see `reload-build.ts`): reading, checking and
 * compiling take processor time that calls need. Arguments: the folder, the folder of finished builds.
 */
import { setPriority } from 'node:os'
import type { CompiledPolicy } from './build.ts'
import { buildPolicy } from './build.ts'
import { PolicyBuildError } from './build-error.ts'
import { loadPolicySources } from './build-sources.ts'
import type { PolicyError } from './compiler.ts'
import { createCompiler } from './compiler.ts'
import { loadCompilerArtifact } from './compiler-artifact.ts'

/** The one message the program sends. */
export type BuildAnswer =
  | { readonly kind: 'built'; readonly policy: CompiledPolicy }
  | { readonly kind: 'refused'; readonly errors: readonly PolicyError[] }
  | { readonly kind: 'fault'; readonly message: string }

/** Calls come first, but a policy that denies must not wait for a quiet moment: a quarter of a busy processor. */
const PRIORITY = 5

if (process.send !== undefined) await main(process.argv[2] ?? '', process.argv[3] ?? '')

async function main(folder: string, cacheDir: string): Promise<void> {
  // Nobody is left who waits for the answer.
  process.once('disconnect', () => process.exit(1))
  lowerPriority()
  const answer = await build(folder, cacheDir)
  process.send?.(answer, () => process.exit(0))
}

function lowerPriority(): void {
  try {
    setPriority(PRIORITY)
  } catch {
    // Where that is not allowed the build is as important as the calls.
  }
}

async function build(folder: string, cacheDir: string): Promise<BuildAnswer> {
  const compiler = createCompiler({ artifact: await loadCompilerArtifact(cacheDir) })
  try {
    const sources = await loadPolicySources(folder)
    return { kind: 'built', policy: await buildPolicy(sources, { compiler, cacheDir }) }
  } catch (error) {
    if (error instanceof PolicyBuildError) return { kind: 'refused', errors: error.errors }
    return { kind: 'fault', message: error instanceof Error ? error.message : String(error) }
  } finally {
    await compiler.close()
  }
}
