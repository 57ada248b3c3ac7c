/** What upstreams say of themselves (`initialize`, `server/discover`), and what the merged mount says of itself in their place. */
import type { JsonObject } from '../../json/object.ts'
import { asObject } from '../../json/object.ts'
import type { UpstreamAnswer } from '../types.ts'

/** What one upstream said, as far as it is passed on; small, for it is kept for every session. */
export interface Profile {
  readonly capabilities: JsonObject
  /** At most 4 Ki characters. */
  readonly instructions: string | null
  /** Revision that was agreed on. */
  readonly protocolVersion: string
}

/** null when the answer is an error, or says nothing of the kind. */
export function parseProfile({ parsed }: UpstreamAnswer): Profile | null {
  const result = asObject(parsed?.['result'])
  const capabilities = asObject(result?.['capabilities'])
  if (result === null || capabilities === null) return null
  const { instructions, protocolVersion } = result
  const isRevision = typeof protocolVersion === 'string' && /^\d{4}-\d\d-\d\d$/.test(protocolVersion)
  if (!isRevision && !Array.isArray(result['supportedVersions'])) return null
  return {
    capabilities: servedOf(capabilities),
    instructions: typeof instructions === 'string' ? cut(instructions, MAX_INSTRUCTIONS) : null,
    protocolVersion: isRevision ? protocolVersion : MODERN_VERSION,
  }
}

const MODERN_VERSION = '2026-07-28'
const MAX_INSTRUCTIONS = 4096
const MAX_ALL_INSTRUCTIONS = 32_768
/** Characters of one capability as JSON; of a longer one only the name is kept. */
const MAX_CAPABILITY = 1024

/** Capability -> those of its members that are passed on; what is not here nobody would serve. */
const SERVED: ReadonlyMap<string, readonly string[]> = new Map([
  ['tools', []],
  ['prompts', []],
  ['resources', ['subscribe']],
  ['completions', []],
  ['logging', []],
  ['tasks', ['list', 'cancel', 'requests']],
  ['extensions', ['io.modelcontextprotocol/tasks']],
])
/** The gateway itself tells of changes in these, at the latest when an upstream comes or goes. */
const CHANGING: ReadonlySet<string> = new Set(['tools', 'prompts', 'resources'])

function servedOf(capabilities: JsonObject): JsonObject {
  const served = [...SERVED.keys()].flatMap((name) => {
    const stated = asObject(capabilities[name])
    if (stated === null) return []
    return [[name, JSON.stringify(stated).length > MAX_CAPABILITY ? {} : stated]]
  })
  return Object.fromEntries(served)
}

/** What at least one of them serves. */
export function mergedCapabilities(profiles: readonly Pick<Profile, 'capabilities'>[]): JsonObject {
  const merged: Record<string, JsonObject> = {}
  for (const [name, members] of SERVED) {
    const stated = profiles
      .map(({ capabilities }) => asObject(capabilities[name]))
      .filter((one) => one !== null)
    const kept = members.flatMap((member) => {
      const values = stated
        .map((one) => one[member])
        .filter((value) => value !== undefined && value !== false)
      return values.length === 0 ? [] : [[member, values.reduce(mergedValue)]]
    })
    if (stated.length === 0 || (name === 'extensions' && kept.length === 0)) continue
    merged[name] = { ...Object.fromEntries(kept), ...(CHANGING.has(name) ? { listChanged: true } : {}) }
  }
  return merged
}

function mergedValue(one: unknown, other: unknown): unknown {
  const a = asObject(one)
  const b = asObject(other)
  if (a === null || b === null) return one
  const keys = new Set([...Object.keys(a), ...Object.keys(b)])
  return Object.fromEntries(
    [...keys].map((key) => [key, key in a && key in b ? mergedValue(a[key], b[key]) : (a[key] ?? b[key])]),
  )
}

/** All instructions, each under its upstream's name; cut to 32 Ki characters. null = nobody gave any. */
export function mergedInstructions(profiles: ReadonlyMap<string, Profile>): string | null {
  const texts = [...profiles].flatMap(([upstream, { instructions }]) =>
    instructions === null || instructions === ''
      ? []
      : [`# ${upstream} (names begin with ${upstream}__)\n\n${instructions}`],
  )
  return texts.length === 0 ? null : cut(texts.join('\n\n'), MAX_ALL_INSTRUCTIONS)
}

function cut(text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max).replace(/[\ud800-\udbff]$/, '')} [..]`
}
