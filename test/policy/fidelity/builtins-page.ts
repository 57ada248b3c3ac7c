/** docs/policies/builtins.md: every builtin of OPA and what became of it here. */
import { fileURLToPath } from 'node:url'
import { COMPILED_AWAY_BUILTINS, OMITTED_BUILTINS } from '../../../src/policy/builtins/omitted.ts'
import { HOST_BUILTINS } from '../../../src/policy/builtins/table.ts'
import type { Compiler } from '../../../src/policy/compiler.ts'

/** Where the page stands. */
export const BUILTINS_PAGE = fileURLToPath(new URL('../../../docs/policies/builtins.md', import.meta.url))

/** The page as text, made from what OPA has and what this host has. */
export async function builtinsPage(compiler: Pick<Compiler, 'capabilities'>): Promise<string> {
  const { builtins, native } = await compiler.capabilities()
  const rows = [...builtins].sort().map((name) => row(name, new Set(native)))
  const count = (state: string) => rows.filter((text) => text.includes(`| ${state} |`)).length
  return `${[
    '# Builtins',
    '',
    'Every builtin of OPA 1.22.0 and its state here. `npm run fidelity` writes this page, and a test fails when it is stale.',
    '',
    `| state | builtins | |`,
    '| --- | ---: | --- |',
    `| ${MODULE} | ${count(MODULE)} | OPA's own implementation, inside the policy's module |`,
    `| ${HOST} | ${count(HOST)} | evaluated by the gateway, with the results of topdown; bounded, and charged to the evaluation's fuel |`,
    `| ${REPLACED} | ${count(REPLACED)} | the same; OPA's module has an implementation, too, but with other results |`,
    `| ${COMPILER} | ${count(COMPILER)} | resolved or erased when the policy is built |`,
    `| ${REFUSED} | ${count(REFUSED)} | an error when the policy is built |`,
    '',
    '| builtin | state | |',
    '| --- | --- | --- |',
    ...rows,
  ].join('\n')}\n`
}

const MODULE = 'Wasm'
const HOST = 'host'
const REPLACED = 'host, not Wasm'
const COMPILER = 'compiler'
const REFUSED = 'refused'

function row(name: string, native: ReadonlySet<string>): string {
  const omitted = OMITTED_BUILTINS.get(name)
  if (omitted !== undefined) {
    return `| \`${name}\` | ${REFUSED} | ${omitted.reason}. Instead: ${omitted.alternative} |`
  }
  return `| \`${name}\` | ${stateOf(name, native)} | |`
}

function stateOf(name: string, native: ReadonlySet<string>): string {
  if (HOST_BUILTINS.has(name)) return native.has(name) ? REPLACED : HOST
  if (native.has(name)) return MODULE
  if (COMPILED_AWAY_BUILTINS.has(name)) return COMPILER
  throw new Error(`nothing is known of the builtin ${name}`)
}
