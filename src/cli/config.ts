/** `gateway config check|show`. Both work offline: no database, no upstream is asked. */
import { statSync } from 'node:fs'
import type { LoadedConfig } from '../config/load.ts'
import { loadConfig } from '../config/load.ts'
import { ConfigError } from '../config/problems.ts'
import { listSettings } from '../config/show.ts'
import { PUBLISHED_POLICIES } from '../config/types.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import type { Streams } from './output.ts'
import { createOutput } from './output.ts'
import { escapeText } from './text.ts'

/** Adds `config check` and `config show`. */
export const configCommands: CommandGroup = (parser, streams) =>
  parser.command('config', 'Check and show the configuration', (group) =>
    group
      .command(
        'check',
        'Tell everything that is wrong with the configuration; exit code 1 when something is',
        (command) => command.example('$0 config check --config prod.yaml', 'Check another file'),
        (args) => check(args, streams),
      )
      .command(
        'show',
        'Show every setting in force and where it comes from; secrets are masked',
        (command) => command.example('$0 config show --json', 'For programs'),
        (args) => show(args, streams),
      )
      .demandCommand(1, 'Name a command: check or show.'),
  )

function check(args: CommandArgs, streams?: Streams): void {
  const out = createOutput(args, streams)
  let loaded: LoadedConfig
  try {
    loaded = loadConfig({ file: args.config })
    refuseMissingPolicies(loaded)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    throw new ConfigError(error.problems, 'check_failed')
  }
  const { config, origins } = loaded
  const outside = [...origins.values()].filter((origin) => /^(environment|flag) /.test(origin)).length
  if (out.isJson) {
    out.json({ ok: true, file: config.file, settings: origins.size, from_environment: outside })
    return
  }
  const upstreams = Object.keys(config.upstreams).join(', ')
  out.line(
    `${out.style('good', 'ok')}  ${escapeText(config.file)}  ${origins.size} settings, ${outside} from environment`,
  )
  out.line(`    upstreams: ${upstreams}`)
}

function refuseMissingPolicies({ config, origins }: LoadedConfig): void {
  if (config.policies === PUBLISHED_POLICIES) return
  const found = statSync(config.policies, { throwIfNoEntry: false })
  if (found?.isDirectory() === true || found?.isFile() === true) return
  const at = origins.get('policies') ?? 'default'
  throw new ConfigError([
    {
      at,
      path: 'policies',
      message: `there is no folder or bundle ${config.policies}`,
      hint: 'Make it, or name another',
    },
  ])
}

function show(args: CommandArgs, streams?: Streams): void {
  const out = createOutput(args, streams)
  const settings = listSettings(loadConfig({ file: args.config }))
  if (out.isJson) {
    out.json(settings)
    return
  }
  out.table(
    ['setting', 'value', 'origin'],
    settings.map(({ setting, value, origin }) => [
      setting,
      value === null ? null : typeof value === 'string' ? value : JSON.stringify(value),
      origin,
    ]),
  )
}
