/**
 * The door of configuration: gateway.yaml, environment and flags -> one frozen, checked {@link Config}.
 * Precedence: flag, environment, file, default. All mistakes are told at once, each with its place.
 */
import { readFileSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import { UsageError } from '../errors.ts'
import type { ConfigDocument, SettingPath } from './document.ts'
import { parseConfigDocument } from './document.ts'
import type { Environment } from './interpolate.ts'
import { interpolate } from './interpolate.ts'
import { mergeOverrides, readTwins, resolvePaths } from './merge.ts'
import type { Override } from './overrides.ts'
import { readOverrides } from './overrides.ts'
import type { Problem } from './problems.ts'
import { ConfigError, pathText } from './problems.ts'
import { checkRules } from './rules.ts'
import { SETTINGS, variableOf } from './settings.ts'
import type { SettingsTree } from './to-config.ts'
import { toConfig } from './to-config.ts'
import type { Config } from './types.ts'
import { validateSettings } from './validate.ts'

/** What the command line says about the configuration. */
export interface ConfigFlags {
  /** `--policies DIR`. */
  readonly policies?: string | undefined
  /** `--dev`: requests without a credential are let in; loopback only. */
  readonly dev?: boolean | undefined
}

/** Where configuration comes from. Everything has the running process as its default. */
export interface LoadOptions {
  /** `--config FILE`; else GATEWAY_CONFIG; else gateway.yaml in the current folder. */
  readonly file?: string | undefined
  readonly flags?: ConfigFlags
  readonly environment?: Environment
  readonly cwd?: string
}

/** The configuration, and what `config show` needs to explain it. */
export interface LoadedConfig {
  readonly config: Config
  /** The merged settings as they are named in the file. Holds secrets: show it through `listSettings`. */
  readonly tree: SettingsTree
  /** Path text -> where an explicitly set value came from. What is missing is a default. */
  readonly origins: ReadonlyMap<string, string>
  /** Path text -> text with `${NAME}` as written. */
  readonly templates: ReadonlyMap<string, string>
}

/** The variables of this process. The only place outside tests where they are read. */
export function processEnvironment(): Environment {
  return process.env
}

/** Reads and checks everything. Throws ConfigError with all problems, or UsageError when there is no file. */
export function loadConfig(options: LoadOptions = {}): LoadedConfig {
  const environment = options.environment ?? processEnvironment()
  const cwd = options.cwd ?? process.cwd()
  const dev = options.flags?.dev === true
  const document = readDocument(options.file ?? environment['GATEWAY_CONFIG'], cwd)
  const problems: Problem[] = []
  const overrides = [...readOverrides(environment, problems), ...readFlags(options.flags ?? {}, environment)]
  const { value, templates } = interpolate(document.value, environment, {
    isOverridden: (path) => overrides.some((override) => pathText(override.path) === pathText(path)),
    complain: (path, message, hint) =>
      problems.push({ at: document.at(path, 'value'), path: pathText(path), message, hint }),
  })
  const merged = mergeOverrides(document, value as Record<string, unknown>, overrides)
  const tell = (path: SettingPath, part: 'key' | 'value', message: string, hint: string | null): void => {
    // A reference that could not be filled has been told already; its empty text would only be told again.
    if (problems.some((known) => known.path === pathText(path))) return
    problems.push({ at: merged.at(path, part), path: pathText(path), message, hint })
  }
  for (const problem of merged.problems) problems.push(problem)
  for (const { path, part, message, hint } of validateSettings(merged.tree)) {
    tell(path, part, message, hint ?? (templates.has(pathText(path)) ? variableHint(path) : null))
  }

  const tree = merged.tree as unknown as SettingsTree
  const broken = new Set(problems.map(({ path }) => path.split(/[.[]/)[0] ?? ''))
  resolvePaths(merged.tree, merged.origins, { file: dirname(resolve(cwd, document.file)), outside: cwd })
  readTwins(merged.tree, (path, message) => tell(path, 'value', message, null))
  checkRules({ tree, templates, origins: merged.origins, dev, broken }, tell)
  if (problems.length > 0) throw new ConfigError(problems)
  return {
    config: toConfig(tree, { file: resolve(cwd, document.file), dev, environment }),
    tree,
    origins: merged.origins,
    templates,
  }
}

/** `${NAME}` gives texts only; numbers and switches have variables of their own. */
function variableHint(path: SettingPath): string | null {
  const setting = SETTINGS.find((candidate) => pathText(candidate.path) === pathText(path))
  return setting === undefined ? null : `Set ${variableOf(setting.path)} instead of using \${..} here`
}

function readDocument(named: string | undefined, cwd: string): ConfigDocument {
  const file = resolve(cwd, named === undefined || named === '' ? 'gateway.yaml' : named)
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file))
  } catch (cause) {
    if (cause instanceof TypeError) throw new UsageError('config', `${file} is not UTF-8 text`, { cause })
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown reason'
    const hint =
      named === undefined ? 'Run this in the folder of your gateway.yaml, or name it with --config FILE.' : ''
    throw new UsageError('config', `cannot read ${file} (${code}). ${hint}`.trim(), { cause })
  }
  const shown = relative(cwd, file)
  return parseConfigDocument(shown.startsWith('..') ? file : shown, text)
}

function readFlags(flags: ConfigFlags, environment: Environment): Override[] {
  const overrides: Override[] = []
  const port = environment['PORT']
  if (flags.dev === true && port !== undefined && port !== '') {
    overrides.push({ path: ['listen'], value: `127.0.0.1:${port}`, origin: 'environment PORT' })
  }
  if (flags.policies !== undefined) {
    overrides.push({ path: ['policies'], value: flags.policies, origin: 'flag --policies' })
  }
  return overrides
}
