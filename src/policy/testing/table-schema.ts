/** Checks a table against schemas/policy-case.schema.json and tells every mistake with its place and the nearest name. */
import { readFile } from 'node:fs/promises'
import type { ErrorObject, ValidateFunction } from 'ajv'
import { Ajv } from 'ajv'
import { nearestName } from '../../nearest-name.ts'
import type { PolicyError } from '../compiler.ts'
import type { YamlDocument, YamlPath } from './yaml-document.ts'

/** Finds what in a table is not of the schema. */
export type TableCheck = (document: YamlDocument) => readonly PolicyError[]

/** Compiling the schema takes longer than most tables; a folder that is watched asks again and again. */
let loading: Promise<TableCheck> | null = null

/** Reads the product's schema of tables, once. */
export function loadTableCheck(): Promise<TableCheck> {
  loading ??= compileSchema()
  return loading
}

async function compileSchema(): Promise<TableCheck> {
  const url = new URL('../../../schemas/policy-case.schema.json', import.meta.url)
  const schema = JSON.parse(await readFile(url, 'utf8')) as object
  const ajv = new Ajv({
    allErrors: true,
    strict: true,
    strictTypes: false,
    allowUnionTypes: true,
    verbose: true,
    validateSchema: false, // it is ours, and tested
  })
  const validate = ajv.compile(schema)
  return (document) => problemsOf(document, validate)
}

function problemsOf(document: YamlDocument, validate: ValidateFunction): readonly PolicyError[] {
  if (validate(document.value)) return []
  return (validate.errors ?? []).map((error) => toProblem(document, error))
}

function toProblem(document: YamlDocument, error: ErrorObject): PolicyError {
  const path = toPath(error.instancePath)
  const at = pathText(path)
  switch (error.keyword) {
    case 'additionalProperties':
      return unknownKey(document, path, error)
    case 'required': {
      const name = String(error.params['missingProperty'])
      return document.error(path, { code: 'wrong_value', message: `${at} has no ${name}` })
    }
    case 'enum':
      return wrongWord(document, path, error)
    case 'type': {
      const message = `${at} must be ${typeNames(error.params['type'])}`
      return document.error(path, { code: 'wrong_value', message })
    }
    case 'pattern': {
      const hint =
        PATTERN_HINTS[String(error.params['pattern'])] ?? `it has to match ${error.params['pattern']}`
      return document.error(path, { code: 'wrong_value', message: `${at} is not valid`, hint })
    }
    default: {
      const message = `${at} ${EMPTY.has(error.keyword) ? 'is empty' : (error.message ?? 'is not valid')}`
      return document.error(path, { code: 'wrong_value', message })
    }
  }
}

const EMPTY: ReadonlySet<string> = new Set(['minLength', 'minItems', 'minProperties'])

const PATTERN_HINTS: Readonly<Record<string, string>> = {
  '^[a-z][a-z0-9-]{0,63}$':
    'a reason is a word of lower-case letters, digits and hyphens, such as other-tenant',
  '^[0-9a-f]{64}$': 'write the 64 hex digits of a SHA-256',
  '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,9})?(Z|[+-]\\d\\d:\\d\\d)$':
    'write a moment such as 2026-11-21T10:00:00Z',
}

function unknownKey(document: YamlDocument, path: YamlPath, error: ErrorObject): PolicyError {
  const name = String(error.params['additionalProperty'])
  const known = Object.keys((error.parentSchema?.['properties'] ?? {}) as object)
  const near = nearestName(name, known)
  const meant = near === null ? '' : `did you mean ${near}? `
  const place = path.length === 0 ? 'of a table' : `of ${pathText(path)}`
  return document.error([...path, name], {
    code: 'unknown_key',
    message: `unknown key ${name}`,
    hint: `${meant}keys ${place}: ${known.join(', ')}`,
    key: true,
  })
}

function wrongWord(document: YamlDocument, path: YamlPath, error: ErrorObject): PolicyError {
  const words = (error.params['allowedValues'] as unknown[]).map(String)
  const near = nearestName(String(error.data), words)
  const message = `${pathText(path)} must be one of: ${words.join(', ')}`
  const hint = near === null ? null : `did you mean ${near}?`
  return document.error(path, { code: 'wrong_value', message, hint })
}

/** A path as people write it: `cases[0].expect.allow`. */
export function pathText(path: YamlPath): string {
  if (path.length === 0) return 'the table'
  const text = path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${step}`)).join('')
  return text.replace(/^\./, '')
}

function toPath(pointer: string): (string | number)[] {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part))
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  object: 'a mapping',
  array: 'a list',
  string: 'a text',
  integer: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
}

function typeNames(types: unknown): string {
  const names = Array.isArray(types) ? types : [types]
  return names.flatMap((name) => TYPE_NAMES[String(name)] ?? []).join(' or ')
}
