/**
 * From sources to the module that serves: the product's own package is added, everything is checked, instrumented and
 * compiled, the module is metered. A finished build is kept on disk under the hash of everything that went into it.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { readCachedBuild, writeCachedBuild } from './build-cache.ts'
import type { JsonObject } from './build-data.ts'
import { ownedError, ownedPath } from './build-data.ts'
import { PolicyBuildError } from './build-error.ts'
import type { PolicySources } from './build-sources.ts'
import { HOST_BUILTINS } from './builtins/table.ts'
import type { BuildRequest, Compiler, PolicyContract } from './compiler.ts'
import type { Dictionary } from './dictionary.ts'
import { PRODUCT_FILE_PREFIX } from './dictionary.ts'
import { METER_VERSION, meter } from './meter.ts'
import { errorsOfOwners, ownershipErrors, serverRuleErrors, upstreamsWithPackage } from './ownership.ts'
import {
  AUTHOR_PACKAGES,
  DECISION_RULES,
  ENTRYPOINTS,
  LIST_READS,
  LISTED,
  OWNED_PACKAGE,
  PRODUCT_FILE,
  productModule,
} from './product-module.ts'

/** Policies ready to serve. */
export interface CompiledPolicy {
  /** The instrumented, metered module. */
  readonly wasm: Uint8Array
  readonly dictionary: Dictionary
  /** Base documents for the module. */
  readonly data: JsonObject
  /** The author's Rego files and the product's, by name. */
  readonly sources: Readonly<Record<string, string>>
  /** Short name of these sources and data: the first 12 hex digits of their SHA-256. */
  readonly revision: string
  /** `sha256:<hex>` of `wasm`. */
  readonly digest: string
  /** Version of OPA that compiled it. */
  readonly opa: string
  readonly entrypoints: readonly string[]
}

/** What a build needs besides the sources. */
export interface BuildOptions {
  readonly compiler: Pick<Compiler, 'build' | 'digest'>
  /** Folder of finished builds; null = none are kept. */
  readonly cacheDir: string | null
  /** JSON Schema of `input`; absent = the product's own. */
  readonly inputSchema?: JsonObject
}

/** What the author may define, for the compiler's check. */
export const POLICY_CONTRACT: PolicyContract = {
  owned: OWNED_PACKAGE,
  open: AUTHOR_PACKAGES,
  exempt: PRODUCT_FILE_PREFIX,
  sets: DECISION_RULES,
}

/** Reads the product's schema of `input`. */
export async function loadInputSchema(): Promise<JsonObject> {
  const path = new URL('../../schemas/policy-input.schema.json', import.meta.url)
  return JSON.parse(await readFile(path, 'utf8')) as JsonObject
}

/**
 * The request that checks an author's sources exactly as a build does; for commands that only check.
 * Throws PolicyBuildError for what needs no compiler to see.
 */
export function toBuildRequest(sources: PolicySources, inputSchema: JsonObject): BuildRequest {
  const stolen = Object.keys(sources.rego).find((name) => name.startsWith(PRODUCT_FILE_PREFIX))
  if (stolen !== undefined) {
    const message = `names that start with ${PRODUCT_FILE_PREFIX} belong to the gateway`
    throw new PolicyBuildError([
      {
        file: stolen,
        row: 0,
        col: 0,
        code: 'contract_error',
        message,
        hint: 'rename the folder',
        line: null,
      },
    ])
  }
  const owned = ownedPath(sources.data)
  if (owned !== null) throw new PolicyBuildError([ownedError('', owned)])
  const foreign = ownershipErrors(sources.rego)
  if (foreign.length > 0) throw new PolicyBuildError(foreign)
  return {
    sources: { ...sources.rego, [PRODUCT_FILE]: productModule(upstreamsWithPackage(sources.rego)) },
    data: sources.data,
    inputSchema,
    builtins: [...HOST_BUILTINS].sort(),
    contract: POLICY_CONTRACT,
    entrypoints: ENTRYPOINTS,
    reads: LIST_READS,
    list: LISTED,
    instrument: true,
  }
}

/** Builds policies, and keeps the module as it was before metering: for a bundle. Throws PolicyBuildError. */
export async function buildForBundle(
  sources: PolicySources,
  compiler: Pick<Compiler, 'build'>,
): Promise<{ readonly policy: CompiledPolicy; readonly module: Uint8Array }> {
  const request = toBuildRequest(sources, await loadInputSchema())
  const { module, ...built } = await compile(request, compiler)
  return { policy: toPolicy(sources, request, built), module }
}

/** Builds policies, or takes them from the cache. Throws PolicyBuildError with everything that is wrong with them. */
export async function buildPolicy(sources: PolicySources, options: BuildOptions): Promise<CompiledPolicy> {
  const request = toBuildRequest(sources, options.inputSchema ?? (await loadInputSchema()))
  const { compiler, cacheDir } = options
  const key = sha256(canonical({ format: 1, compiler: compiler.digest, meter: METER_VERSION, request }))
  const cached = cacheDir === null ? null : await readCachedBuild(cacheDir, key)
  if (cached !== null) return toPolicy(sources, request, cached)
  const { module: _module, ...built } = await compile(request, compiler)
  if (cacheDir !== null) await writeCachedBuild(cacheDir, key, built)
  return toPolicy(sources, request, built)
}

/** Short name of sources and data: equal ones have equal names. */
export function revisionOf({ rego, data }: PolicySources): string {
  return sha256(canonical({ rego, data })).slice(0, 12)
}

function toPolicy(sources: PolicySources, request: BuildRequest, built: BuiltPolicy): CompiledPolicy {
  const { wasm, dictionary, opa, entrypoints } = built
  return Object.freeze({
    ...{ wasm, dictionary, opa, entrypoints },
    data: sources.data,
    sources: Object.freeze({ ...request.sources }),
    revision: revisionOf(sources),
    digest: `sha256:${sha256(wasm)}`,
  })
}

/** The part of a policy that takes time to make. */
export type BuiltPolicy = Pick<CompiledPolicy, 'wasm' | 'dictionary' | 'opa' | 'entrypoints'>

async function compile(
  request: BuildRequest,
  compiler: Pick<Compiler, 'build'>,
): Promise<BuiltPolicy & { readonly module: Uint8Array }> {
  const result = await compiler.build(request)
  if (!result.ok) throw new PolicyBuildError(errorsOfOwners(result.errors, request.sources))
  if (result.dictionary === null) throw new Error('the compiler returned no trace dictionary')
  const { opa, entrypoints, dictionary } = result
  const { sources } = request
  const unasked = serverRuleErrors(dictionary, upstreamsWithPackage(sources), sources)
  if (unasked.length > 0) throw new PolicyBuildError(unasked)
  return { wasm: meter(result.wasm), module: result.wasm, dictionary, opa, entrypoints }
}

/** JSON with sorted keys: equal values give equal text. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_name, member: unknown) => {
    if (typeof member !== 'object' || member === null || Array.isArray(member)) return member
    return Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
  })
}

function sha256(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}
