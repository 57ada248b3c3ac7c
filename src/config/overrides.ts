/** Settings from outside the file: `GATEWAY_*` variables, DATABASE_URL, flags of the command line. */

import { editDistance } from '../nearest-name.ts'
import type { Environment } from './interpolate.ts'
import type { Problem } from './problems.ts'
import type { SchemaNode } from './settings.ts'
import { SETTINGS, variableOf } from './settings.ts'

/** One setting given by the environment or the command line. */
export interface Override {
  readonly path: readonly string[]
  readonly value: unknown
  /** Where it came from, as shown to people: `environment GATEWAY_LISTEN`, `flag --policies`. */
  readonly origin: string
}

/** Names that begin with GATEWAY_ and are no settings. */
const OTHER_NAMES = new Set(['GATEWAY_CONFIG', 'GATEWAY_KEY'])

/**
 * Reads the settings in the environment. An empty variable counts as not set. A name that is one or two letters away from
 * a setting is a problem; other unknown names are left alone, because orchestrators make some (`GATEWAY_SERVICE_HOST`).
 */
export function readOverrides(environment: Environment, problems: Problem[]): Override[] {
  const overrides: Override[] = []
  const known = new Map(SETTINGS.map((setting) => [variableOf(setting.path), setting]))
  const databaseUrl = environment['DATABASE_URL']
  if (databaseUrl !== undefined && databaseUrl !== '' && !environment['GATEWAY_DATABASE_URL']) {
    overrides.push({ path: ['database', 'url'], value: databaseUrl, origin: 'environment DATABASE_URL' })
  }
  for (const [name, text] of Object.entries(environment)) {
    if (!name.startsWith('GATEWAY_') || text === undefined || text === '') continue
    const origin = `environment ${name}`
    const setting = known.get(name)
    if (setting === undefined) {
      const meant = OTHER_NAMES.has(name) ? null : nearMiss(name, [...known.keys()])
      if (meant !== null) {
        problems.push({ at: origin, path: '', message: 'sets nothing', hint: `Did you mean ${meant}?` })
      }
      continue
    }
    overrides.push({ path: setting.path, value: toValue(text, setting.node), origin })
  }
  return overrides
}

/** The text of a variable as the setting's type; texts that do not fit stay texts, for the schema to refuse. */
function toValue(text: string, node: SchemaNode): unknown {
  const types = typeof node.type === 'string' ? [node.type] : (node.type ?? [])
  if (types.includes('array')) return text.split(',').map((item) => item.trim())
  if (types.includes('boolean')) return text === 'true' ? true : text === 'false' ? false : text
  if (types.includes('integer') || types.includes('number')) {
    return /^\d{1,15}(\.\d{1,6})?$/.test(text) ? Number(text) : text
  }
  return text
}

function nearMiss(name: string, known: readonly string[]): string | null {
  return known.find((candidate) => editDistance(name.slice(0, 64), candidate) <= 2) ?? null
}
