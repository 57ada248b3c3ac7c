import { readFileSync } from 'node:fs'

/** The version in package.json, one level above `src/` and `dist/` alike. */
export const VERSION: string = readVersion()

function readVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return String((JSON.parse(text) as Record<string, unknown>)['version'])
}
