/** Upstreams that policies are about and that the configuration does not have: what is said of them protects nothing. */
import { nearestName } from '../../nearest-name.ts'
import type { PolicyError } from '../compiler.ts'
import { PRODUCT_FILE_PREFIX } from '../dictionary.ts'
import { filesOfUpstreams } from '../ownership.ts'
import { literalsOf } from './literals.ts'
import type { DataStep, ToolNames } from './offered-tools.ts'
import { everything, inDataFile, parseDataFiles, toolLists } from './offered-tools.ts'
import { createRuleGraph } from './rule-graph.ts'

type Says = Pick<PolicyError, 'code' | 'message' | 'hint'>

/**
 * The warnings of a policy, one for each upstream and way to speak of it: its own package or folder, members of data that are
 * chosen by `input.server.name`, and names in rules that look misspelt (rules may be about upstreams of other gateways).
 * @param upstreams names in the configuration
 */
export function lintUpstreams(names: ToolNames, upstreams: readonly string[]): readonly PolicyError[] {
  if (upstreams.length === 0) return []
  return [...ofOwners(names, upstreams), ...inRules(names, upstreams), ...inData(names, upstreams)]
}

function ofOwners({ sources, dataFiles }: ToolNames, upstreams: readonly string[]): readonly PolicyError[] {
  const folders = Object.keys(dataFiles).flatMap((file) => {
    const upstream = /^server\/([^/]+)\//.exec(file)?.[1]
    return upstream === undefined ? [] : [{ file, row: 0, upstream }]
  })
  const first = new Map(
    [...filesOfUpstreams(sources), ...folders].toReversed().map((one) => [one.upstream, one] as const),
  )
  return [...first.values()]
    .filter(({ upstream }) => !upstreams.includes(upstream))
    .map(({ file, row, upstream }) => {
      const line = row === 0 ? null : (sources[file]?.split('\n')[row - 1] ?? null)
      const col = row === 0 ? 0 : Math.max(0, line?.lastIndexOf(upstream) ?? 0) + 1
      const place = { file, row, col, endCol: col + upstream.length, line }
      return { ...place, ...complaint(upstream, upstreams) }
    })
}

function inRules({ dictionary, sources }: ToolNames, upstreams: readonly string[]): readonly PolicyError[] {
  const graph = createRuleGraph(dictionary, sources)
  return authored(dictionary.rules)
    .flatMap((rule) => everything(rule, graph))
    .flatMap((expr) => literalsOf(expr, 'input.server.name') ?? [])
    .filter(({ value }) => !upstreams.includes(value) && nearestName(value, upstreams) !== null)
    .map(({ value, ...place }) => {
      const line = sources[place.file]?.split('\n')[place.row - 1] ?? null
      return { ...place, line, ...complaint(value, upstreams) }
    })
}

function inData(
  { dictionary, sources, data, dataFiles }: ToolNames,
  upstreams: readonly string[],
): readonly PolicyError[] {
  const documents = parseDataFiles(dataFiles)
  const graph = createRuleGraph(dictionary, sources)
  const paths = toolLists(authored(dictionary.rules), graph).flatMap((steps) => membersAt(data, steps))
  const unknown = new Map(
    paths.filter((path) => !upstreams.includes(path.at(-1) ?? '')).map((path) => [path.join('.'), path]),
  )
  return [...unknown.values()].map((path) =>
    inDataFile(path, documents, complaint(path.at(-1) ?? '', upstreams), true),
  )
}

function authored<T extends { readonly file: string }>(rules: readonly T[]): readonly T[] {
  return rules.filter(({ file }) => !file.startsWith(PRODUCT_FILE_PREFIX))
}

/** Paths of the members that `input.server.name` chooses from. */
function membersAt(data: unknown, steps: readonly DataStep[]): readonly (readonly string[])[] {
  const at = steps.findIndex((step) => typeof step === 'object' && step !== null)
  const lead = steps.slice(0, at)
  if (at < 0 || !lead.every((step) => typeof step === 'string')) return []
  const parent = lead.reduce<unknown>((value, step) => membersOf(value)[step], data)
  return Object.keys(membersOf(parent)).map((name) => [...lead, name])
}

function membersOf(value: unknown): Readonly<Record<string, unknown>> {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  return isObject ? (value as Readonly<Record<string, unknown>>) : {}
}

function complaint(upstream: string, upstreams: readonly string[]): Says {
  const near = nearestName(upstream, upstreams)
  return {
    code: 'unknown_upstream',
    message: `gateway.yaml has no upstream ${upstream}`,
    hint: near === null ? `upstreams: ${upstreams.join(', ')}` : `did you mean ${near}?`,
  }
}
