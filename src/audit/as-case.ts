/** A recorded attempt -> a test table (schemas/policy-case.schema.json) that asks the policy the same again. Pure. */
import { parseExact, stringifyExact } from '../json/exact.ts'
import { factsOf } from './facts.ts'
import type { StoredRow } from './query.ts'
import type { RecordedQuestion } from './replay.ts'
import { toRecordedQuestion } from './replay.ts'
import { sentenceOf } from './sentence.ts'

/** The table. */
export interface RowCase {
  /** YAML. */
  readonly text: string
  /** What the row does not hold as it was. The case is skipped, and says so, until a person has filled it in. */
  readonly fillIn: readonly string[]
}

/** null: no policy was asked, or the row does not hold what. */
export function toCase(row: StoredRow): RowCase | null {
  const question = toRecordedQuestion(row)
  if (question === null) return null
  const places = placesOf(row.redaction)
  const fillIn = [
    ...places.map(({ text }) => text),
    ...question.losses.filter((loss) => /^the arguments/.test(loss)),
  ]
  const asked = parseExact(question.inputText)
  const lost = new Set(places.map(({ pointer }) => pointer))
  const input = asObject(fillIn.length === 0 ? asked : marked(asked, '', lost))
  const target = asObject(input['target'])
  if (typeof target['name'] !== 'string') return null
  const sentence = sentenceOf(row, factsOf(row))
  const lines = [
    `# From audit row ${row.id}, policy ${visible(row.policy_revision ?? 'unknown')}:`,
    `# ${visible(sentence)}`,
    ...(fillIn.length === 0 ? [] : ['# Values that begin with "FILL IN" are not in the row.']),
    'fixtures:',
    ...fixtureLines(input, target, suffixOf(row)),
    'cases:',
    ...caseLines({
      row,
      input,
      target,
      question,
      fillIn,
      name: nameOf(row, target['name'], question.decided.allow),
    }),
  ]
  return { text: `${lines.join('\n')}\n`, fillIn }
}

type Members = Readonly<Record<string, unknown>>

/** Fixtures have names of their own, so that the table fits into any folder. */
function suffixOf({ id }: StoredRow): string {
  return `-${id.slice(-8)}`
}

function fixtureName(name: unknown, suffix: string): string {
  return `${[...String(name)].slice(0, 64).join('')}${suffix}`
}

function fixtureLines(input: Members, target: Members, suffix: string): readonly string[] {
  const { name: server, labels } = asObject(input['server'])
  const principal = asObject(input['principal'])
  const { kind, name, annotations, schema_digest: digest } = target
  const inServer = fixtureName(server, suffix)
  return [
    '  principals:',
    ...block(fixtureName(principal['id'], suffix), principal),
    '  servers:',
    ...block(inServer, { name: server, labels }),
    ...(kind !== 'tool'
      ? []
      : [
          '  tools:',
          ...block(fixtureName(name, suffix), { server: inServer, name, annotations, schema_digest: digest }),
        ]),
  ]
}

/** A fixture, a member on each line. */
function block(name: string, members: Members): readonly string[] {
  const known = Object.entries(members).filter(([, value]) => value !== undefined)
  return [`    ${flow(name, 4)}:`, ...known.map(([member, value]) => `      ${member}: ${flow(value, 6)}`)]
}

interface CaseParts {
  readonly row: StoredRow
  readonly input: Members
  readonly target: Members
  readonly question: RecordedQuestion
  readonly fillIn: readonly string[]
  readonly name: string
}

function caseLines({ row, input, target, question, fillIn, name }: CaseParts): readonly string[] {
  const suffix = suffixOf(row)
  const request = asObject(input['request'])
  const { id, ip, protocol_version: version, session } = request
  const server = fixtureName(asObject(input['server'])['name'], suffix)
  const isTool = target['kind'] === 'tool'
  const subject = isTool
    ? { tool: fixtureName(target['name'], suffix) }
    : {
        server,
        method: request['method'],
        target: target['kind'] === 'server' ? undefined : { kind: target['kind'], name: target['name'] },
      }
  const members: Members = {
    skip: fillIn.length === 0 ? undefined : skipText(fillIn),
    now: momentOf(asObject(asObject(parseExact(row.decision))['authz'])['now_ns']),
    principal: fixtureName(asObject(input['principal'])['id'], suffix),
    ...subject,
    arguments: input['arguments'],
    request: { id, ip, protocol_version: version, session },
    client: input['client'],
    expect: expectation(question),
  }
  const written = Object.entries(members).filter(([, value]) => value !== undefined)
  return [
    `  - name: ${flow(name, 4)}`,
    ...written.map(([member, value]) => `    ${member}: ${flow(value, 4)}`),
  ]
}

const MAX_NAME = 40

/** Short: reports show it on one line with why the case is skipped. */
function nameOf({ ts }: StoredRow, name: string, allow: boolean): string {
  const target = [...visible(name)]
  const shown = target.length <= MAX_NAME ? target.join('') : `${target.slice(0, MAX_NAME - 2).join('')}..`
  return `incident ${ts.toISOString().slice(0, 10)}: ${shown} ${allow ? 'allowed' : 'denied'}`
}

const MAX_PLACES = 5

function skipText(fillIn: readonly string[]): string {
  const more = fillIn.length > MAX_PLACES ? ` and ${fillIn.length - MAX_PLACES} more` : ''
  // Reports cut long texts in the middle: what is to be done stands at the end.
  return `the row lacks ${fillIn.slice(0, MAX_PLACES).join(', ')}${more}: fill in, then remove this line`
}

/** What was decided. A failure has no reasons to compare. */
function expectation({ decided }: RecordedQuestion): Members {
  const { allow, allowedBy, deniedBy, failure } = decided
  return failure === null ? { allow, allowed_by: allowedBy, denied_by: deniedBy } : { failure }
}

/** RFC 3339 with nanoseconds. */
function momentOf(nowNs: unknown): string | undefined {
  if (typeof nowNs !== 'string' || !/^\d{1,19}$/.test(nowNs)) return undefined
  const ns = BigInt(nowNs)
  const seconds = new Date(Number(ns / 1_000_000n)).toISOString().slice(0, 19)
  const fraction = String(ns % 1_000_000_000n).padStart(9, '0')
  return `${seconds}${fraction === '000000000' ? '' : `.${fraction}`}Z`
}

/** What stands in the place of a secret. A caller may have sent such a text itself: it is looked for only when something was lost. */
const REPLACED = /\[(?:redacted|cut):/

/** Texts that are not as they were begin with words that no author overlooks. */
function marked(value: unknown, at: string, lost: ReadonlySet<string>): unknown {
  if (typeof value === 'string') return lost.has(at) || REPLACED.test(value) ? `FILL IN ${value}` : value
  if (Array.isArray(value)) return value.map((one, index) => marked(one, `${at}/${index}`, lost))
  if (typeof value !== 'object' || value === null) return value
  const members = Object.entries(value).map(([name, member]) => {
    const step = name.replaceAll('~', '~0').replaceAll('/', '~1')
    return [name, marked(member, `${at}/${step}`, lost)] as const
  })
  return Object.fromEntries(members)
}

/** A place where the row is not as the policy has seen it. */
interface Place {
  /** In the policy's input (RFC 6901). */
  readonly pointer: string
  readonly text: string
}

/** Where the redactor took something out of what the policy has seen. */
function placesOf(redaction: string | null): readonly Place[] {
  if (redaction === null) return []
  const sections = asObject(JSON.parse(redaction))
  const failed = Array.isArray(sections['redaction_failed']) ? sections['redaction_failed'] : []
  return ['request', 'input'].flatMap((section) => {
    const { redacted, cut, withheld } = asObject(sections[section])
    const place = (at: string, what: string): Place => ({
      pointer: section === 'request' ? at.replace(/^\/params(?:\/arguments)?/, '/arguments') : at,
      text: `${section}${at === '' ? '' : ` ${at}`} (${what})`,
    })
    return [
      ...pairs(redacted).map(([at, kind]) => place(at, kind === 'key' ? 'secret' : `secret: ${kind}`)),
      ...pairs(cut).map(([at, what]) => place(at, `cut: ${what}`)),
      ...(withheld === true ? [place('', 'not kept')] : []),
      ...(failed.includes(section) ? [place('', 'could not be made safe')] : []),
    ]
  })
}

function pairs(value: unknown): readonly (readonly [at: string, what: string])[] {
  return Array.isArray(value)
    ? value.filter(Array.isArray).map(([at, what]) => [String(at), String(what)])
    : []
}

const MAX_LINE = 100

/** JSON, which is YAML too: on one line where it fits, digits as they are, nothing invisible in it. */
function flow(value: unknown, indent: number): string {
  const line = escaped(stringifyExact(value))
  if (line.length + indent <= MAX_LINE || typeof value !== 'object') return line
  return escaped(stringifyExact(value, 2)).replaceAll('\n', `\n${' '.repeat(indent)}`)
}

// Line breaks between members stand outside of strings: in them they are escaped already.
const UNSEEN = /(?!\n)[\p{C}\p{Zl}\p{Zp}]/gu

function escaped(json: string): string {
  return json.replace(UNSEEN, (char) =>
    [...Array(char.length).keys()]
      .map((at) => `\\u${char.charCodeAt(at).toString(16).padStart(4, '0')}`)
      .join(''),
  )
}

/** For comments and names: on one line, nothing invisible. */
function visible(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '\ufffd')
}

function asObject(value: unknown): Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Members) : {}
}
