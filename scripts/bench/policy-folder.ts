/** A policies folder of a size that an organisation has: 50 files, 2,000 lines, tests and tables among them. For benchmarks. */
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

const MODULES = 34
const RULES = 6
const TESTED = 8
const TABLES = 7

/** Writes the folder; returns how many files and lines it has. */
export async function writePolicyFolder(
  root: string,
): Promise<{ readonly files: number; readonly lines: number }> {
  const files: Record<string, string> = { 'limits/data.yaml': data() }
  for (let index = 0; index < MODULES; index += 1) files[moduleFile(index)] = moduleText(index)
  for (let index = 0; index < TESTED; index += 1) files[`teams/team${index}_test.rego`] = ruleTests(index)
  for (let index = 0; index < TABLES; index += 1) files[`cases/team${index}.yaml`] = table(index)
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true })
    await writeFile(join(root, name), text)
  }
  const lines = Object.values(files).reduce((sum, text) => sum + text.split('\n').length - 1, 0)
  return { files: Object.keys(files).length, lines }
}

/** A policy file of the folder. */
export function moduleFile(index: number): string {
  return `teams/team${index}.rego`
}

/** Its text; `limit` is a number in it. */
export function moduleText(index: number, limit = 10): string {
  const rules = Array.from({ length: RULES }, (_, rule) => ruleText(index, rule, limit))
  return `package gateway.authz\n\n${rules.join('\n')}`
}

function ruleText(index: number, rule: number, limit: number): string {
  const name = `team${index}_${rule}`
  return `# Tools of team ${index}, kind ${rule}.
${name} if {
	input.principal.tenant == "team${index}"
	input.arguments.amount <= ${limit + rule}
}

${rule % 2 === 0 ? 'allow' : 'deny'} contains "team${index}-${rule}" if ${name}
`
}

function ruleTests(index: number): string {
  return `package team${index}_test

import data.gateway.authz

test_allowed if {
	"team${index}-0" in authz.allow with input.principal as {"tenant": "team${index}"} with input.arguments as {"amount": 3}
}

test_others if {
	count(authz.allow) == 0 with input.principal as {"tenant": "nobody"} with input.arguments as {"amount": 3}
}
`
}

function table(index: number): string {
  const cases = Array.from(
    { length: 4 },
    (_, number) =>
      `  - name: amount ${number} of team ${index}\n    arguments: { amount: ${number} }\n    expect: { allow: false, denied_by: [team${index}-1, team${index}-3, team${index}-5] }\n`,
  )
  return `fixtures:
  principals: { ada: { tenant: team${index} } }
  tools: { pay: { server: bank } }
principal: ada
tool: pay
cases:
${cases.join('')}`
}

function data(): string {
  return `${Array.from({ length: 20 }, (_, index) => `limit${index}: ${index}`).join('\n')}\n`
}
