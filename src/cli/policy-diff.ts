/** `gateway policy diff`: what differs between two policies, in their rules and in what they decide. */
import { statSync } from 'node:fs'
import type { Argv } from 'yargs'
import { toRecordedQuestion } from '../audit/replay.ts'
import { UsageError } from '../errors.ts'
import type { CompiledPolicy } from '../policy/build.ts'
import { buildPolicy, loadInputSchema } from '../policy/build.ts'
import { loadPolicySources } from '../policy/build-sources.ts'
import { authorsFiles, toCompiledPolicy } from '../policy/bundle.ts'
import { compareTexts } from '../policy/comparison/rules.ts'
import { compareVerdicts, createAsker } from '../policy/comparison/verdicts.ts'
import type { Compiler } from '../policy/compiler.ts'
import type { InputQuestion } from '../policy/input-document.ts'
import { InputRefused, parseInputDocument } from '../policy/input-document.ts'
import { caseQuestions } from '../policy/testing/find-case.ts'
import type { CommandArgs, DatabaseContext } from './context.ts'
import type { Streams } from './output.ts'
import { createOutput } from './output.ts'
import { openBundle } from './policy-bundle.ts'
import { showRefusal } from './policy-check.ts'
import type { PolicyDifference } from './policy-diff-lines.ts'
import { isDifferent, layoutDifference } from './policy-diff-lines.ts'
import type { PolicyPlace } from './policy-place.ts'
import { findPolicies, withCompiler } from './policy-place.ts'

/** Options of the command. */
export interface DiffArgs extends CommandArgs {
  readonly before: string
  readonly after: string
  readonly cases?: string | undefined
  readonly rows?: string | undefined
}

const MAX_ROWS = 10_000
/** When a stored policy is compared, the database is there to ask. */
const DEFAULT_ROWS = 200

/** Describes the command line. */
export function diffOptions(command: Argv<CommandArgs>): Argv<DiffArgs> {
  const what = 'a folder, a bundle, or the revision (or digest) of a policy that has served'
  return command
    .positional('before', { type: 'string', demandOption: true, describe: `The first: ${what}` })
    .positional('after', { type: 'string', demandOption: true, describe: 'The second, likewise' })
    .option('cases', {
      type: 'string',
      requiresArg: true,
      describe: 'Policies folder whose table cases are asked (default: the second or first folder)',
    })
    .option('rows', {
      type: 'string',
      requiresArg: true,
      describe: `Recorded decisions that are asked again, the newest (default: ${DEFAULT_ROWS} with a revision, else 0)`,
    })
    .example('$0 policy diff 03e075fe70ca ./policies', 'What would change')
    .example('$0 policy diff old.tar.gz new.tar.gz --cases ./policies --rows 1000', 'Two bundles')
}

/** Where one side comes from. */
type Side = { readonly kind: 'folder' | 'bundle' | 'revision'; readonly name: string }

/** A recorded decision; null question: its input cannot be read any more. */
interface Recorded {
  readonly name: string
  readonly question: InputQuestion | null
  readonly isWhole: boolean
}

/** Compares; exit code 1 when something differs. */
export async function diff(args: DiffArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const sides = [sideOf(args.before), sideOf(args.after)] as const
  const rows = parseRows(args.rows, sides)
  const fromDatabase = await readDatabase(args, sides, rows, streams)
  const casesFolder = args.cases ?? sides.findLast(({ kind }) => kind === 'folder')?.name ?? null
  const place = findPolicies({ ...args, dir: casesFolder ?? '.' })
  const difference = await out
    .progress('comparing the policies', async () => {
      const [before, after] = await withCompiler(place, (compiler) =>
        bothOf(sides, fromDatabase.stored, { place, compiler }),
      )
      return await compare({ before, after, place, casesFolder, recorded: fromDatabase.recorded })
    })
    .catch((error: unknown) => showRefusal(out, error, 'the policies', 'Nothing was compared.'))
  if (out.isJson) out.json(difference)
  else for (const line of layoutDifference(difference, out)) out.line(line)
  if (isDifferent(difference)) throw new UsageError('check_failed', 'The policies differ.')
}

function sideOf(name: string): Side {
  const found = statSync(name, { throwIfNoEntry: false })
  if (found !== undefined) return { kind: found.isFile() ? 'bundle' : 'folder', name }
  if (/^(sha256:)?[0-9a-f]{4,64}$/.test(name)) return { kind: 'revision', name }
  throw new UsageError('usage', `${name} is no folder, no bundle, and no revision.`)
}

function parseRows(text: string | undefined, sides: readonly Side[]): number {
  if (text === undefined) return sides.some(({ kind }) => kind === 'revision') ? DEFAULT_ROWS : 0
  if (/^\d{1,5}$/.test(text) && Number(text) <= MAX_ROWS) return Number(text)
  throw new UsageError('usage', `--rows is a number from 0 to ${MAX_ROWS}.`)
}

/** Sources of stored policies by the name that was asked for. */
type Stored = ReadonlyMap<string, { readonly rego: CompiledPolicy['sources']; readonly dataText: string }>

interface FromDatabase {
  readonly stored: Stored
  readonly recorded: readonly Recorded[]
}

async function readDatabase(
  args: DiffArgs,
  sides: readonly Side[],
  rows: number,
  streams?: Streams,
): Promise<FromDatabase> {
  const revisions = sides.filter(({ kind }) => kind === 'revision').map(({ name }) => name)
  if (revisions.length === 0 && rows === 0) return { stored: new Map(), recorded: [] }
  const { withDatabase } = await import('./context.ts')
  return await withDatabase(
    args,
    async (context) => ({
      stored: new Map(
        await Promise.all(revisions.map(async (name) => [name, await storedOf(context, name)] as const)),
      ),
      recorded: await recordedOf(context, rows),
    }),
    streams,
  )
}

async function storedOf(
  { pools }: DatabaseContext,
  name: string,
): Promise<{ readonly rego: CompiledPolicy['sources']; readonly dataText: string }> {
  const { findRevisions } = await import('../audit/revisions.ts')
  const [found, another] = await findRevisions(pools.general, name)
  if (found === undefined)
    throw new UsageError('not_found', `No policy of revision ${name} has served with this database.`)
  if (another !== undefined)
    throw new UsageError('usage', `More than one policy begins with ${name}: write more of its revision.`)
  if (found.dataText === null)
    throw new UsageError(
      'not_found',
      `The data of ${found.revision} were not kept, so it cannot be built again.`,
    )
  return { rego: authorsFiles(found.sources), dataText: found.dataText }
}

async function recordedOf({ pools }: DatabaseContext, limit: number): Promise<readonly Recorded[]> {
  if (limit === 0) return []
  const { latestDecided } = await import('../audit/query.ts')
  const schema = await loadInputSchema()
  return (await latestDecided(pools.general, limit)).flatMap((row): readonly Recorded[] => {
    const recorded = toRecordedQuestion(row)
    if (recorded === null) return []
    const name = `${row.id} ${row.method ?? ''} ${row.server ?? ''} ${row.tool_name ?? ''}`.trimEnd()
    try {
      const question = parseInputDocument(recorded.inputText, schema)
      return [{ name, question, isWhole: recorded.losses.length === 0 }]
    } catch (error) {
      if (!(error instanceof InputRefused)) throw error
      return [{ name, question: null, isWhole: false }]
    }
  })
}

interface Building {
  readonly place: PolicyPlace
  readonly compiler: Compiler
}

async function bothOf(
  [before, after]: readonly [Side, Side],
  stored: Stored,
  building: Building,
): Promise<readonly [CompiledPolicy, CompiledPolicy]> {
  return [await policyOf(before, stored, building), await policyOf(after, stored, building)]
}

async function policyOf(
  { kind, name }: Side,
  stored: Stored,
  { place, compiler }: Building,
): Promise<CompiledPolicy> {
  if (kind === 'bundle') return toCompiledPolicy(await openBundle(name, null))
  const known = stored.get(name)
  const sources =
    known === undefined
      ? await loadPolicySources(name)
      : { rego: known.rego, data: JSON.parse(known.dataText) as CompiledPolicy['data'] }
  return await buildPolicy(sources, { compiler, cacheDir: place.cacheDir })
}

interface Comparison {
  readonly before: CompiledPolicy
  readonly after: CompiledPolicy
  readonly place: PolicyPlace
  readonly casesFolder: string | null
  readonly recorded: readonly Recorded[]
}

async function compare({
  before,
  after,
  place,
  casesFolder,
  recorded,
}: Comparison): Promise<PolicyDifference> {
  const monotonicMs = (): number => performance.now()
  const cases = casesFolder === null ? [] : await caseQuestions(casesFolder)
  const askable = recorded.flatMap(({ name, question }) => (question === null ? [] : [{ name, question }]))
  const one = await createAsker(before, place.limits, monotonicMs)
  const other = await createAsker(after, place.limits, monotonicMs)
  try {
    return {
      before: before.revision,
      after: after.revision,
      ...compareTexts(before, after),
      cases: { asked: cases.length, changes: await compareVerdicts(cases, one, other) },
      rows: {
        asked: askable.length,
        not_whole: recorded.filter(({ isWhole }) => !isWhole).length,
        changes: await compareVerdicts(askable, one, other),
      },
    }
  } finally {
    one.close()
    other.close()
  }
}
