/**
 * Tools that an upstream has shown to one client only: a session may have tools of its own, which the shared list, read in the
 * gateway's own session, never holds. Known to that client alone, by the upstream's own answer to it.
 */
import { LRUCache } from 'lru-cache'
import type { ToolEntry } from '../gateway/types.ts'
import { toToolList } from './tool-list.ts'

/** One tool of a list as it was shown: its name, and the JSON text that described it. */
export interface ShownTool {
  readonly name: string
  readonly text: string
}

/** `client` names a session or a principal; see `Rooms.upstreams`. */
export interface SeenTools {
  learn(client: string, shown: readonly ShownTool[]): void
  find(client: string, name: string): ToolEntry | null
}

/** Of all clients of an upstream together, in characters of JSON; what was used least recently is forgotten. */
const MAX_CHARS = 16 * 1024 * 1024
const MAX_TOOLS = 10_000
const MAX_TOOL_CHARS = 256 * 1024
const TTL_MS = 60 * 60_000

/** Makes an empty book. */
export function createSeenTools(): SeenTools {
  const seen = new LRUCache<string, ToolEntry>({
    max: MAX_TOOLS,
    maxSize: MAX_CHARS,
    maxEntrySize: MAX_TOOL_CHARS,
    ttl: TTL_MS,
  })
  const keyOf = (client: string, name: string): string => JSON.stringify([client, name])

  return {
    learn(client, shown) {
      const sizes = new Map(shown.map(({ name, text }) => [name, text.length]))
      // Two of one name are as useless as in the shared list, and so is what was known by that name before.
      for (const { name } of shown) seen.delete(keyOf(client, name))
      for (const tool of toToolList(shown.map(({ text }) => JSON.parse(text))).tools.values())
        seen.set(keyOf(client, tool.name), tool, { size: sizes.get(tool.name) ?? 1 })
    },
    find: (client, name) => seen.get(keyOf(client, name)) ?? null,
  }
}
