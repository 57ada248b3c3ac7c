/** The settings in force, each with where it came from, and without secrets: for `config show`. */
import type { LoadedConfig } from './load.ts'
import { pathText } from './problems.ts'
import { nodeAt } from './settings.ts'

/** One setting in force. */
export interface ShownSetting {
  readonly setting: string
  /** JSON value; secrets as the text with `${NAME}` that was written, else masked. */
  readonly value: unknown
  /** `default`, `file:line:col`, `environment NAME` or `flag --name`. */
  readonly origin: string
}

const MASK = '********'

/** All settings in the order of the schema, secrets masked. */
export function listSettings({ tree, origins, templates }: LoadedConfig): ShownSetting[] {
  const shown: ShownSetting[] = []
  const walk = (value: unknown, path: readonly string[]): void => {
    const isBranch = typeof value === 'object' && value !== null && !Array.isArray(value)
    if (isBranch && Object.keys(value).length > 0) {
      for (const [name, inner] of sortBySchema(Object.entries(value), path)) walk(inner, [...path, name])
      return
    }
    const setting = pathText(path)
    shown.push({
      setting,
      value: toShown(value, path, templates.get(setting)),
      origin: origins.get(setting) ?? 'default',
    })
  }
  walk(tree, [])
  return shown
}

function toShown(value: unknown, path: readonly string[], template: string | undefined): unknown {
  if (typeof value !== 'string') return value
  const isSecret = nodeAt(path)?.['x-secret'] === true
  if (isSecret) return template ?? (path[0] === 'database' ? maskUrl(value) : MASK)
  // Not declared a secret, yet filled from outside next to one: the written text says enough.
  return path[0] === 'upstreams' && template !== undefined ? template : value
}

function maskUrl(text: string): string {
  if (!URL.canParse(text)) return MASK
  const { protocol, username, hostname, port, pathname } = new URL(text)
  const user = username === '' ? '' : `${username}:${MASK}@`
  return `${protocol}//${user}${hostname}${port === '' ? '' : `:${port}`}${pathname}`
}

function sortBySchema(entries: [string, unknown][], path: readonly string[]): [string, unknown][] {
  const order = Object.keys(nodeAt(path)?.properties ?? {})
  return entries.sort(([left], [right]) => order.indexOf(left) - order.indexOf(right))
}
