/** Checks a merged configuration against schemas/config.schema.json and turns what ajv says into problems. */
import { isIP, isIPv4 } from 'node:net'
import type { ErrorObject, ValidateFunction } from 'ajv/dist/2020.js'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { nearestName } from '../nearest-name.ts'
import type { SettingPath } from './document.ts'
import { parseListen } from './listen.ts'
import { CONFIG_SCHEMA, nodeAt } from './settings.ts'

/** A schema problem before it is known where the setting stands. */
export interface SchemaProblem {
  readonly path: SettingPath
  /** Which end of the setting to point at. */
  readonly part: 'key' | 'value'
  readonly message: string
  readonly hint: string | null
}

/** format name -> check and what to write instead. */
const FORMATS: Readonly<Record<string, { check(text: string): boolean; hint: string }>> = {
  listen: { check: (text) => parseListen(text) !== null, hint: 'Write address:port, such as 127.0.0.1:8080' },
  'listen-or-off': {
    check: (text) => text === 'off' || parseListen(text) !== null,
    hint: 'Write address:port, such as 127.0.0.1:8081, or off',
  },
  'http-url': {
    check: isPlainHttpUrl,
    hint: 'Write an http:// or https:// URL without user, password or fragment; credentials go into headers',
  },
  'postgres-url': { check: isPostgresUrl, hint: 'Write postgres://user:password@host:5432/database' },
  'host-name': { check: isHostName, hint: 'Write a host name or address, optionally with :port' },
  origin: {
    check: isOrigin,
    hint: 'Write scheme://host or scheme://host:port (port * = any), without a path',
  },
  network: { check: isNetwork, hint: 'Write an address or a network such as 10.0.0.0/8' },
  'header-name': { check: (text) => HEADER_NAME.test(text), hint: 'Write an HTTP header name' },
  'header-value': {
    check: (text) => HEADER_VALUE.test(text),
    hint: 'Line breaks and control characters cannot be sent',
  },
}

const HEADER_NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]{0,16384}$/

const ajv = new Ajv2020({
  allErrors: true,
  useDefaults: true,
  strict: true,
  strictTypes: false,
  allowUnionTypes: true,
  formats: Object.fromEntries(Object.entries(FORMATS).map(([name, { check }]) => [name, check])),
  // Every command starts with this: what a schema may say is tested, and code for one document need not be optimised.
  validateSchema: false,
  code: { optimize: false },
})
ajv.addVocabulary(['x-secret', 'x-path'])
let compiled: ValidateFunction | null = null

/** Fills in defaults (in place) and returns every problem; none = the tree has the shape of the schema. */
export function validateSettings(tree: Record<string, unknown>): SchemaProblem[] {
  compiled ??= ajv.compile(CONFIG_SCHEMA)
  if (compiled(tree)) return []
  return (compiled.errors ?? [])
    .filter((error) => error.keyword !== 'propertyNames')
    .map((error) => toProblem(error))
}

function toProblem(error: ErrorObject): SchemaProblem {
  const path = toPath(error.instancePath)
  switch (error.keyword) {
    case 'additionalProperties':
      return unknownKey(error, path)
    case 'required': {
      const name = String(error.params['missingProperty'])
      const hint = nodeAt([...path, name])?.description ?? null
      return { path: [...path, name], part: 'key', message: 'is missing', hint: firstSentence(hint) }
    }
    case 'type':
      return {
        path,
        part: 'value',
        message: `must be ${typeNames(error.params['type'])}`,
        hint: null,
      }
    case 'enum': {
      const allowed = (error.params['allowedValues'] as unknown[]).join(', ')
      return { path, part: 'value', message: `must be one of: ${allowed}`, hint: null }
    }
    case 'format':
      return formatProblem(error, path)
    case 'pattern':
      return patternProblem(error, path)
    default:
      return { path, part: 'value', message: error.message ?? 'is not valid', hint: null }
  }
}

function unknownKey(error: ErrorObject, path: SettingPath): SchemaProblem {
  const name = String(error.params['additionalProperty'])
  const found = { path: [...path, name], part: 'key' } as const
  if (name === 'args' && path[0] === 'upstreams' && path.length === 2)
    return { ...found, message: 'unknown setting', hint: 'Write them into command: [program, argument, ..]' }
  const known = Object.keys(nodeAt(path)?.properties ?? {})
  const near = nearestName(name, known)
  const hint = near === null ? `Known here: ${known.join(', ')}` : `Did you mean ${near}?`
  return { ...found, message: 'unknown setting', hint }
}

function formatProblem(error: ErrorObject, path: SettingPath): SchemaProblem {
  const format = FORMATS[String(error.params['format'])]
  if (error.propertyName !== undefined) {
    return {
      path: [...path, error.propertyName],
      part: 'key',
      message: 'is not a name',
      hint: format?.hint ?? null,
    }
  }
  return { path, part: 'value', message: 'is not valid', hint: format?.hint ?? null }
}

function patternProblem(error: ErrorObject, path: SettingPath): SchemaProblem {
  if (error.propertyName === undefined) return { path, part: 'value', message: 'is not valid', hint: null }
  const isUpstream = path.length === 1 && path[0] === 'upstreams'
  if (path[0] === 'upstreams' && path[2] === 'env')
    return {
      path: [...path, error.propertyName],
      part: 'key',
      message: 'is not a name',
      hint: 'Letters, digits and _',
    }
  const hint = isUpstream
    ? 'Lower-case letters, digits and hyphens, at most 63, beginning and ending with a letter or digit'
    : 'Letters, digits, ., _ and -, at most 64'
  return { path: [...path, error.propertyName], part: 'key', message: 'is not a name', hint }
}

function typeNames(type: unknown): string {
  const names = Array.isArray(type) ? type : [type]
  const words: Readonly<Record<string, string>> = {
    object: 'a mapping',
    array: 'a list',
    string: 'a text',
    integer: 'a whole number',
    number: 'a number',
    boolean: 'true or false',
  }
  return names.flatMap((name) => words[String(name)] ?? []).join(' or ')
}

function firstSentence(text: string | null): string | null {
  return text === null ? null : (text.split(/\.\s|\.$/)[0] ?? null)
}

/** A JSON pointer of ajv as path; list positions as numbers. */
function toPath(pointer: string): (string | number)[] {
  const path: (string | number)[] = []
  for (const part of pointer.split('/').slice(1)) {
    const name = part.replaceAll('~1', '/').replaceAll('~0', '~')
    const isPosition = /^\d+$/.test(name) && nodeAt(path)?.items !== undefined
    path.push(isPosition ? Number(name) : name)
  }
  return path
}

function isPlainHttpUrl(text: string): boolean {
  if (!(URL.canParse(text) && /^https?:\/\//i.test(text))) return false
  const url = new URL(text)
  return url.username === '' && url.password === '' && url.hash === '' && !text.includes('#')
}

function isPostgresUrl(text: string): boolean {
  return /^postgres(ql)?:\/\//.test(text) && URL.canParse(text)
}

function isHostName(text: string): boolean {
  if (!URL.canParse(`http://${text}/`)) return false
  if (!/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?$/.test(text)) return false
  return true
}

/** Any port is written `:*`; the rest must be what a browser sends. */
function isOrigin(text: string): boolean {
  const origin = text.replace(/:\*$/, '')
  if (!URL.canParse(origin)) return false
  const { protocol, host, port } = new URL(origin)
  const isDoubled = origin !== text && port !== ''
  return host !== '' && !isDoubled && origin.toLowerCase() === `${protocol}//${host}`
}

function isNetwork(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/')
  if (rest.length > 0 || isIP(address) === 0) return false
  if (bits === undefined) return true
  return /^\d{1,3}$/.test(bits) && Number(bits) <= (isIPv4(address) ? 32 : 128)
}
