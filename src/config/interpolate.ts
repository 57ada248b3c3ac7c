/**
 * `${NAME}` in strings of gateway.yaml: the variable NAME, or the content of the file named by NAME_FILE;
 * `${NAME:-text}`: the text when there is neither.
 */
import type { SettingPath } from './document.ts'
import { pathText } from './problems.ts'
import { readSecretFile } from './secret-file.ts'

/** The environment as far as configuration may read it. */
export type Environment = Readonly<Record<string, string | undefined>>

const REFERENCE = /\$\$\{|\$\{([^}]*)\}/g
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/
/** No configuration nests deeper; YAML text can. */
const MAX_DEPTH = 16

/** The replaced tree, and which settings were filled from outside (their written text is safe to show). */
export interface Interpolated {
  readonly value: Readonly<Record<string, unknown>>
  /** Path text -> the text as written, for every string that held a reference. */
  readonly templates: ReadonlyMap<string, string>
}

/** What {@link interpolate} asks back. */
export interface InterpolateHooks {
  /** A variable or flag sets this setting anyway: its text in the file does not count, whatever it refers to. */
  isOverridden(path: SettingPath): boolean
  /** Told what is wrong with a reference. */
  complain(path: SettingPath, message: string, hint: string | null): void
}

/** Replaces references in all string values (never in names). `$${` stands for a plain `${`. */
export function interpolate(
  tree: Readonly<Record<string, unknown>>,
  environment: Environment,
  hooks: InterpolateHooks,
): Interpolated {
  const templates = new Map<string, string>()
  const fillText = (text: string, path: SettingPath): string => {
    if (!text.includes('${') || hooks.isOverridden(path)) return text
    const filled = fill(text, environment, (message, hint) => hooks.complain(path, message, hint))
    if (filled.referenced) templates.set(pathText(path), text)
    return filled.text
  }
  const walk = (value: unknown, path: SettingPath): unknown => {
    if (typeof value === 'string') return fillText(value, path)
    if (typeof value !== 'object' || value === null) return value
    if (path.length > MAX_DEPTH) {
      hooks.complain(path, 'nested too deeply', null)
      return null
    }
    if (Array.isArray(value)) return value.map((item, at) => walk(item, [...path, at]))
    return Object.fromEntries(
      Object.entries(value).map(([name, item]) => [name, walk(item, [...path, name])]),
    )
  }
  return { value: walk(tree, []) as Record<string, unknown>, templates }
}

function fill(
  text: string,
  environment: Environment,
  complain: (message: string, hint: string | null) => void,
): { text: string; referenced: boolean } {
  let referenced = false
  const filled = text.replace(REFERENCE, (whole, name: string | undefined) => {
    if (whole === '$${') return '${'
    referenced = true
    return lookUp(name ?? '', environment, complain)
  })
  return { text: filled, referenced }
}

function lookUp(
  reference: string,
  environment: Environment,
  complain: (message: string, hint: string | null) => void,
): string {
  const [name = '', ...rest] = reference.split(':-')
  const fallback = rest.length === 0 ? null : rest.join(':-')
  if (!NAME.test(name)) {
    complain('{..} after $ must hold the name of a variable', 'Write $$ for a $ before a brace')
    return ''
  }
  const value = environment[name]
  if (value !== undefined && value !== '') return value
  const file = environment[`${name}_FILE`]
  if (file === undefined || file === '') {
    if (fallback !== null) return fallback
    const state = value === '' ? 'is empty' : 'is not set'
    complain(
      `the environment variable ${name} ${state}`,
      `Set ${name}, or ${name}_FILE to a file that holds it`,
    )
    return ''
  }
  try {
    return readSecretFile(file)
  } catch (cause) {
    complain(`${name}_FILE: ${cause instanceof Error ? cause.message : 'cannot be read'}`, null)
    return ''
  }
}
