/** `gateway policy check`. */
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { loadConfig } from '../config/load.ts'
import { UsageError } from '../errors.ts'
import { loadInputSchema, toBuildRequest } from '../policy/build.ts'
import { PolicyBuildError } from '../policy/build-error.ts'
import type { PolicySources } from '../policy/build-sources.ts'
import { loadPolicySources } from '../policy/build-sources.ts'
import { createCompiler } from '../policy/compiler.ts'
import { loadCompilerArtifact } from '../policy/compiler-artifact.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import type { Streams } from './output.ts'
import { createOutput } from './output.ts'
import { escapeText } from './text.ts'

interface CheckArgs extends CommandArgs {
  readonly dir?: string | undefined
}

/** Adds `policy check`. */
export const policyCommands: CommandGroup = (parser, streams) =>
  parser.command('policy', 'Work on policies', (group) =>
    group
      .command<CheckArgs>(
        'check [dir]',
        'Check policies as the gateway does before it serves them; exit code 1 when they are wrong',
        (command) =>
          command
            .positional('dir', { type: 'string', describe: 'Policies folder (default: the configured one)' })
            .example('$0 policy check', 'The configured folder')
            .example('$0 policy check ./policies --json', 'Another one, for programs'),
        (args) => check(args, streams),
      )
      .demandCommand(1, 'Name a command: check.'),
  )

async function check(args: CheckArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const folder = args.dir ?? loadConfig({ file: args.config }).config.policies
  try {
    const sources = await out.progress('checking the policies', () => checkFolder(folder))
    if (out.isJson) out.json([])
    else
      out.line(`${out.style('good', 'ok')}  ${escapeText(folder)}  ${Object.keys(sources.rego).length} files`)
  } catch (error) {
    if (!(error instanceof PolicyBuildError)) throw error
    if (out.isJson) out.json(error.errors)
    else out.line(error.format())
    const count = error.errors.length === 1 ? '1 error' : `${error.errors.length} errors`
    throw new UsageError('check_failed', `${count} in ${folder}`, { cause: error })
  }
}

async function checkFolder(folder: string): Promise<PolicySources> {
  const sources = await loadPolicySources(folder)
  const request = toBuildRequest(sources, await loadInputSchema())
  const compiler = createCompiler({ artifact: await loadCompilerArtifact(compilerCache()) })
  try {
    const result = await compiler.check(request)
    if (!result.ok) throw new PolicyBuildError(result.errors)
    return sources
  } finally {
    await compiler.close()
  }
}

/** Where the compiler is unpacked when there is no build. What is found there is compared with the recorded digest. */
function compilerCache(): string {
  return join(tmpdir(), `mcp-policy-gateway-compiler-${userInfo().uid}`)
}
