/** `gateway policy new`: a policy and its test from a template. Nothing that exists is ever written over. */
import { lstat, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { UsageError } from '../errors.ts'

/** Above `src/setup` and `dist/setup` alike. */
const TEMPLATES = fileURLToPath(new URL('../../templates/policies/', import.meta.url))

/** What there is, by name: a folder in templates/policies each. */
export const POLICY_TEMPLATES = {
  role: 'which tools a role may use',
  'argument-bounds': 'what an argument of a tool may be',
  'path-prefix': 'paths stay below one folder',
  'business-hours': 'when something may be changed, by the clock of a time zone',
  budget: 'how often a team may use a tool',
  'read-only': 'a role that changes nothing',
  tenant: 'an upstream of one tenant is closed to others',
  mask: 'what no audit row may hold',
} as const satisfies Readonly<Record<string, string>>

/** Name of a template. */
export type PolicyTemplate = keyof typeof POLICY_TEMPLATES

/** The name becomes a reason and, with underscores, begins the names of rules; those of `gwtr` belong to the trace. */
const NAME = /^(?!gwtr)[a-z](?:[a-z0-9-]{0,62}[a-z0-9])?$/

/** What {@link writePolicy} needs. */
export interface NewPolicy {
  /** The policies folder. */
  readonly folder: string
  readonly name: string
  readonly template: PolicyTemplate
}

/** Writes policy and test into `authz/`. Returns their names. Throws UsageError `usage` or `exists`, then nothing was written. */
export async function writePolicy({ folder, name, template }: NewPolicy): Promise<readonly string[]> {
  if (!NAME.test(name)) {
    const rule = 'small letters, digits and dashes, at most 64, beginning with a letter (and not with gwtr)'
    throw new UsageError('usage', `${JSON.stringify(name)} is no name for a policy: ${rule}.`)
  }
  const files = [
    { name: `authz/${name}.rego`, text: await fill(`${template}/policy.rego`, name) },
    { name: `authz/${name}_test.rego`, text: await fill(`${template}/policy_test.rego`, name) },
  ]
  for (const file of files) {
    if ((await lstat(join(folder, file.name)).catch(() => null)) !== null) throw exists(folder, file.name)
  }
  const written: string[] = []
  try {
    for (const file of files) {
      const path = join(folder, file.name)
      await mkdir(dirname(path), { recursive: true })
      await writeFile(path, file.text, { flag: 'wx' })
      written.push(path)
    }
  } catch (cause) {
    for (const path of written) await rm(path, { force: true })
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown reason'
    throw new UsageError('usage', `The policy cannot be written to ${folder} (${code}).`, { cause })
  }
  return files.map((file) => file.name)
}

function exists(folder: string, name: string): UsageError {
  return new UsageError('exists', `${join(folder, name)} is there already. Choose another name.`)
}

async function fill(template: string, name: string): Promise<string> {
  const text = await readFile(join(TEMPLATES, template), 'utf8')
  return text.replaceAll('@NAME@', name).replaceAll('@IDENT@', name.replaceAll('-', '_'))
}
