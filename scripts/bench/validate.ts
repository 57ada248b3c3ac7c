/**
 * What checking arguments costs: a check, a schema that is met for the first time, and what hostile schemas and values take
 * from everybody else, which is time of the gateway's own thread. All in one run. About 35 s:
 * `node --import=tsx/esm scripts/bench/validate.ts`.
 */
import { readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { createSchemaPlans } from '../../src/upstream/schema-plans.ts'
import { toToolList } from '../../src/upstream/tool-list.ts'

const ROUND_MS = 3000

const plans = createSchemaPlans({ monotonicMs: () => performance.now() })
let tools = 0

/** A schema under a digest of its own, as the catalogue makes it. */
function toolOf(schema: object) {
  tools += 1
  const name = `tool${tools}`
  const tool = toToolList([{ name, inputSchema: { type: 'object', title: name, ...schema } }]).tools.get(name)
  if (tool === undefined) throw new Error('the schema is not usable')
  return tool
}

type Tool = ReturnType<typeof toolOf>

const check = (upstream: string, tool: Tool, text: string) =>
  plans.check(upstream, tool, JSON.parse(text), text).catch(() => ['refused'])

const small = toolOf({
  properties: {
    repository: { type: 'string', minLength: 1, maxLength: 100 },
    title: { type: 'string', maxLength: 200 },
    labels: { type: 'array', items: { type: 'string' }, maxItems: 20 },
    state: { enum: ['open', 'closed'] },
    assignee: { $ref: '#/$defs/user' },
  },
  required: ['repository', 'title'],
  additionalProperties: false,
  $defs: { user: { type: 'object', properties: { login: { type: 'string' } }, required: ['login'] } },
})
const smallText = JSON.stringify({
  repository: 'acme/shop',
  title: 'It does not work on Tuesdays',
  labels: ['bug', 'tuesday'],
  assignee: { login: 'ada' },
})
const pattern = toolOf({ properties: { sku: { type: 'string', pattern: '^[A-Z]{2}-[0-9]{4,8}$' } } })
const fields = Object.fromEntries(
  Array.from({ length: 100 }, (_, index) => [
    `field${index}`,
    { type: 'string', description: 'A field of it' },
  ]),
)
const wide = toolOf({ properties: fields })
const wideText = JSON.stringify(
  Object.fromEntries(Object.keys(fields).map((name) => [name, 'a value of it'])),
)
const recursive = toolOf({ properties: { name: { type: 'string' }, next: { $ref: '#' } } })
const long = toolOf({ properties: { path: { type: 'string' }, content: { type: 'string' } } })

const ordinary: readonly (readonly [string, Tool, string])[] = [
  ['5 properties', small, smallText],
  ['a pattern', pattern, '{"sku":"AB-123456"}'],
  ['100 properties', wide, wideText],
  ['a text of 200 KB', long, JSON.stringify({ path: 'a', content: 'x'.repeat(200_000) })],
  ['recursive: in the other process', recursive, '{"name":"a","next":{"name":"b"}}'],
]

console.log('one check, besides JSON.parse')
for (const [name, tool, text] of ordinary) {
  const value: unknown = JSON.parse(text)
  await plans.check('ordinary', tool, value, text)
  const rounds = tool === recursive ? 5000 : 100_000
  const from = performance.now()
  for (let round = 0; round < rounds; round += 1) await plans.check('ordinary', tool, value, text)
  console.log(`  ${name.padEnd(32)} ${((1000 * (performance.now() - from)) / rounds).toFixed(2)} us`)
}

const deep = (levels: number, leaf: unknown): unknown => {
  let value = leaf
  for (let level = 0; level < levels; level += 1) value = { a: value }
  return value
}
const branches = Array.from({ length: 200 }, (_, index) => ({ required: [`p${index}`] }))
const items = (length: number) => Array.from({ length }, (_, index) => ({ index }))

/** Each makes a schema that nobody has seen, and arguments for it. */
const HOSTILE: Readonly<Record<string, () => readonly [object, string]>> = {
  'references that double': () => [
    { properties: { a: { allOf: [{ $ref: '#' }, { $ref: '#' }] } } },
    JSON.stringify(deep(60, 1)),
  ],
  'branches times items': () => [
    { properties: { a: { type: 'array', items: { anyOf: branches } } } },
    JSON.stringify({ a: items(20_000) }),
  ],
  'unique items': () => [
    { properties: { a: { type: 'array', uniqueItems: true } } },
    JSON.stringify({ a: items(15_000) }),
  ],
  'a backtracking pattern': () => [
    { properties: { a: { type: 'string', pattern: '^(a+)+$' } } },
    JSON.stringify({ a: `${'a'.repeat(200_000)}!` }),
  ],
  'many patterns': () => [
    {
      patternProperties: Object.fromEntries(
        Array.from({ length: 100 }, (_, index) => [`^(?:[a-z]{1,50}${index}){1,9}$`, {}]),
      ),
    },
    JSON.stringify(Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`abc${index}`, 1]))),
  ],
  'a schema of 1000 parts': () => [
    {
      properties: Object.fromEntries(
        Array.from({ length: 495 }, (_, index) => [
          `p${index}`,
          { anyOf: [{ type: 'string', minLength: index }] },
        ]),
      ),
    },
    '{"p1":"x"}',
  ],
  'a schema of 60 KB in $defs': () => [
    { $defs: Object.fromEntries(items(900).map((item) => [`d${item.index}`, { const: 'x'.repeat(60) }])) },
    '{}',
  ],
}

/** ms this thread has been on a processor; wall time where the system does not tell (it counts what others did as well). */
function threadMs(): number {
  try {
    const [ns] = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')
    return Number(ns) / 1e6
  } catch {
    return performance.now()
  }
}

interface Storm {
  readonly name: string
  /** One hostile call; absent = a calm sea. */
  readonly call?: () => Promise<unknown>
}

/** Eight hostile callers at a time, and an ordinary one every 2 ms. */
async function measure({ name, call }: Storm): Promise<void> {
  const until = performance.now() + ROUND_MS
  const isOver = () => performance.now() > until
  let calls = 0
  const rage = async () => {
    while (call !== undefined && !isOver()) {
      await call()
      calls += 1
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  const delay = monitorEventLoopDelay({ resolution: 1 })
  const took: number[] = []
  const busyFrom = threadMs()
  const raging = Array.from({ length: 8 }, rage)
  delay.enable()
  while (!isOver()) {
    const from = performance.now()
    await check('ordinary', small, smallText)
    took.push(performance.now() - from)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  delay.disable()
  await Promise.all(raging)
  took.sort((a, b) => a - b)
  const busy = calls === 0 ? '' : `${((threadMs() - busyFrom) / calls).toFixed(2)} ms`
  const late = [50, 99].map((share) => Math.max(delay.percentile(share) / 1e6 - 1, 0).toFixed(1)).join(' / ')
  const p99 = `${((took[Math.floor(took.length * 0.99)] ?? 0) * 1000).toFixed(0)} us`
  const columns = [String(calls).padStart(7), busy.padStart(9), p99.padStart(10), late.padStart(13)]
  console.log(`  ${name.padEnd(32)}${columns.join('')}`)
}

console.log('under hostile calls')
console.log(`  ${''.padEnd(32)}  calls     each ordinary p99  late p50/p99 ms`)
await measure({ name: 'none' })
for (const [name, make] of Object.entries(HOSTILE)) {
  const [schema, text] = make()
  const value: unknown = JSON.parse(text)
  // Parsing is everybody's; what a schema costs beyond that is measured.
  const call = () => plans.check('hostile', toolOf(schema), value, text).catch(() => ['refused'])
  await measure({ name: `${name} (${Math.ceil(text.length / 1024)} KB)`, call })
}
const { title: _title, ...untitled } = small.inputSchema as Record<string, unknown>
await measure({
  name: 'ordinary schemas, each new',
  call: () => check('hostile', toolOf(untitled), smallText),
})
console.log(`${tools} schemas met, ${Math.round(process.memoryUsage().rss / 1e6)} MB in memory`)
plans.close()
