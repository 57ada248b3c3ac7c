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
      value: Array.isArray(value)
        ? value.map((item, at) => toShownItem(item, [...path, at], templates.get(`${setting}[${at}]`)))
        : toShown(value, path, templates.get(setting)),
      // A secret that was read from a file comes from where the file was named.
      origin: origins.get(setting) ?? origins.get(`${setting}_file`) ?? 'default',
    })
  }
  walk(tree, [])
  return shown
}

function toShown(value: unknown, path: readonly string[], template: string | undefined): unknown {
  if (typeof value !== 'string') return value
  const isSecret = nodeAt(path)?.['x-secret'] === true
  if (isSecret) return template ?? (path[0] === 'database' ? maskUrl(value) : MASK)
  if (path[0] !== 'upstreams') return value
  // Not declared a secret, yet it may hold one: filled from outside, or after the question mark of a URL.
  return template ?? (path.at(-1) === 'url' ? value.replace(/\?.*/s, `?${MASK}`) : value)
}

/** Of a list items filled from outside are masked, and of its objects the members that are declared secret. */
function toShownItem(
  item: unknown,
  path: readonly (string | number)[],
  template: string | undefined,
): unknown {
  if (typeof item !== 'object' || item === null) return template ?? item
  const members = Object.entries(item).map(([name, value]) => {
    const isSecret = nodeAt([...path, name])?.['x-secret'] === true
    return [name, isSecret ? MASK : value]
  })
  return Object.fromEntries(members)
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
