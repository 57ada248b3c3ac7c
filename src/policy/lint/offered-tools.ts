/** Finds tools that policies name and no upstream offers: after a typing error or a renaming such a rule protects nothing. */
import { nearestName } from '../../nearest-name.ts'
import type { JsonObject } from '../build-data.ts'
import type { PolicyError } from '../compiler.ts'
import type { Dictionary, ExprProbe, RuleProbe } from '../dictionary.ts'
import { PRODUCT_FILE_PREFIX } from '../dictionary.ts'
import { asObject } from '../testing/fixtures.ts'
import { YamlDocument } from '../testing/yaml-document.ts'
import { literalsOf, valuesIn } from './literals.ts'
import type { RuleGraph } from './rule-graph.ts'
import { createRuleGraph } from './rule-graph.ts'

/** Name of an upstream -> names of its tools; null = it could not be asked. */
export type OfferedTools = ReadonlyMap<string, ReadonlySet<string> | null>

/** What is looked at. */
export interface ToolNames {
  readonly dictionary: Dictionary
  /** Rego texts by file. */
  readonly sources: Readonly<Record<string, string>>
  readonly data: JsonObject
  /** Texts of the data files by path. */
  readonly dataFiles: Readonly<Record<string, string>>
}

/** The warnings of a policy. Names in data are found where a rule looks for `input.target.name` in them. */
export function lintOfferedTools(names: ToolNames, offered: OfferedTools): readonly PolicyError[] {
  if (offered.size === 0) return []
  const { dictionary, sources, data, dataFiles } = names
  const graph = createRuleGraph(dictionary, sources)
  const rules = [...graph.rules.values()].flat().filter(isAboutTools(graph))
  const inRules = rules.flatMap((rule) => namedInRule(rule, graph, sources, offered))
  const documents = parseDataFiles(dataFiles)
  const inData = toolLists(rules, graph).flatMap((path) =>
    namedInData(data, path).flatMap((named) => dataWarning(named, documents, offered)),
  )
  return [...inRules, ...inData]
}

/** Paths of the lists in data that these rules look for `input.target.name` in, each once. */
export function toolLists(rules: readonly RuleProbe[], graph: RuleGraph): readonly (readonly DataStep[])[] {
  return [...new Map(rules.flatMap((rule) => everything(rule, graph)).flatMap(dataPathOf)).values()]
}

/** The data files that can be read with places. */
export function parseDataFiles(dataFiles: ToolNames['dataFiles']): readonly YamlDocument[] {
  return Object.entries(dataFiles).flatMap(([file, text]) => {
    const parsed = YamlDocument.parse(file, text)
    return parsed instanceof YamlDocument ? [parsed] : []
  })
}

/** Rules that name another kind are about its names. */
function isAboutTools(graph: RuleGraph): (rule: RuleProbe) => boolean {
  return (rule) => {
    if (rule.file.startsWith(PRODUCT_FILE_PREFIX)) return false
    const kinds = valuesIn(graph.bodyOf(rule), 'input.target.kind')
    return kinds === null || kinds.has('tool')
  }
}

/** All expressions of a definition, those of its closures, too. */
export function everything(rule: RuleProbe, graph: RuleGraph): readonly ExprProbe[] {
  const inside = (expr: ExprProbe): readonly ExprProbe[] => [
    expr,
    ...expr.parts.flatMap((part) => graph.closureBody(part)).flatMap(inside),
  ]
  return graph.bodyOf(rule).flatMap(inside)
}

function namedInRule(
  rule: RuleProbe,
  graph: RuleGraph,
  sources: Readonly<Record<string, string>>,
  offered: OfferedTools,
): readonly PolicyError[] {
  const servers = valuesIn(graph.bodyOf(rule), 'input.server.name')
  return everything(rule, graph)
    .flatMap((expr) => literalsOf(expr, 'input.target.name') ?? [])
    .flatMap(({ value, ...place }) => {
      const says = complaint(value, servers, offered)
      if (says === null) return []
      const line = sources[place.file]?.split('\n')[place.row - 1] ?? null
      return [{ ...place, ...says, line }]
    })
}

/** null when one of the upstreams offers it, or one of them is not known. */
function complaint(
  tool: string,
  servers: ReadonlySet<string> | null,
  offered: OfferedTools,
): Pick<PolicyError, 'code' | 'message' | 'hint'> | null {
  const asked = [...(servers ?? offered.keys())]
  const lists = asked.map((server) => offered.get(server) ?? null)
  const known = lists.filter((list) => list !== null)
  if (known.length < lists.length || known.some((list) => list.has(tool))) return null
  const near = nearestName(tool, [...new Set(known.flatMap((list) => [...list]))])
  const where =
    asked.length === 1 ? `${asked[0]} offers no tool ${tool}` : `no upstream offers a tool ${tool}`
  return {
    code: 'unknown_tool',
    message: where,
    hint: near === null ? 'gateway tools list shows what is offered' : `did you mean ${near}?`,
  }
}

/** A step of a path into data: a name, the name of the call's upstream, or anything. */
export type DataStep = string | { readonly server: true } | null

const DATA_LIST = /^(?:not\s+)?input\.target\.name\s+in\s+(data(?:\.\w+|\[[^\][]+\])+)$/
const STEP = /\.(\w+)|\["((?:[^"\\]|\\.)*)"\]|\[([^\]]+)\]/g

/** `input.target.name in data.servers[input.server.name].tools[kind]`: the path, under its text. */
function dataPathOf({ text }: ExprProbe): readonly (readonly [text: string, path: readonly DataStep[]])[] {
  const path = DATA_LIST.exec(text.replace(/\s+/g, ' '))?.[1]
  if (path === undefined) return []
  const steps = [...path.matchAll(STEP)].map(([, name, quoted, term]): DataStep => {
    if (term === undefined) return name ?? quoted ?? ''
    return term === 'input.server.name' ? { server: true } : null
  })
  return [[path, steps]]
}

interface NamedInData {
  readonly tool: string
  readonly path: readonly (string | number)[]
  /** The upstream below whose name it stands; null = any. */
  readonly server: string | null
}

function namedInData(data: JsonObject, steps: readonly DataStep[]): readonly NamedInData[] {
  let found: readonly {
    readonly value: unknown
    readonly path: readonly string[]
    readonly server: string | null
  }[] = [{ value: data, path: [], server: null }]
  for (const step of steps) {
    found = found.flatMap(({ value, path, server }) => {
      const members = Object.entries(asObject(value))
      return members
        .filter(([name]) => typeof step !== 'string' || step === name)
        .map(([name, inner]) => ({
          value: inner,
          path: [...path, name],
          server: typeof step === 'object' && step !== null ? name : server,
        }))
    })
  }
  return found.flatMap(({ value, path, server }) =>
    (Array.isArray(value) ? value : []).flatMap((tool: unknown, index) =>
      typeof tool === 'string' ? [{ tool, server, path: [...path, index] }] : [],
    ),
  )
}

function dataWarning(
  { tool, path, server }: NamedInData,
  documents: readonly YamlDocument[],
  offered: OfferedTools,
): readonly PolicyError[] {
  // Policies may know upstreams that this gateway does not have.
  if (server !== null && !offered.has(server)) return []
  const says = complaint(tool, server === null ? null : new Set([server]), offered)
  if (says === null) return []
  return [inDataFile(path, documents, says)]
}

/** A warning at a place in data. `key`: it is about the name of the member. */
export function inDataFile(
  path: readonly (string | number)[],
  documents: readonly YamlDocument[],
  says: Pick<PolicyError, 'code' | 'message' | 'hint'>,
  key = false,
): PolicyError {
  for (const document of documents) {
    const folders = document.file.split('/').slice(0, -1)
    const inner = path.slice(folders.length)
    const isHere = folders.every((folder, index) => path[index] === folder)
    if (isHere && inner.length > 0 && document.reach(inner) === inner.length)
      return document.error(inner, { ...says, key })
  }
  // A file that is too large for the YAML reader, such as a long data.json, has no places.
  const message = `${says.message} (data.${path.join('.')})`
  return { ...says, message, file: '', row: 0, col: 0, line: null }
}
