/**
 * Messages about policies: the stable id of each kind, and how one is laid out for a person. Ids keep their meaning from
 * version to version: P1.. errors in policies, P2.. warnings, P3.. errors in test tables, P4.. errors in test rules.
 */
import { OMITTED_BUILTINS } from './builtins/omitted.ts'
import type { PolicyError } from './compiler.ts'

/** The kind of a message. */
export interface MessageKind {
  readonly id: string
  readonly title: string
  /** Warnings let a policy serve. */
  readonly severity: 'error' | 'warning'
}

interface KindRule extends Omit<MessageKind, 'severity'> {
  /** The compiler's code, or ours. */
  readonly code: string
  /** What the message begins with; absent = anything. */
  readonly message?: RegExp
  /** Whether the function that the message names has to be one of OPA's builtins. */
  readonly ofBuiltin?: true
}

/** The first that fits. */
const KINDS: readonly KindRule[] = [
  { id: 'P101', title: 'unknown input field', code: 'rego_type_error', message: /^undefined ref: input\b/ },
  {
    id: 'P102',
    title: 'builtin not available',
    code: 'rego_type_error',
    message: /^undefined function/,
    ofBuiltin: true,
  },
  { id: 'P103', title: 'unknown function', code: 'rego_type_error', message: /^undefined function/ },
  { id: 'P110', title: 'deprecated builtin', code: 'rego_type_error', message: /^deprecated built-in/ },
  {
    id: 'P112',
    title: 'compile error',
    code: 'rego_type_error',
    message: /^(?:multiple default|conflicting) rules\b/,
  },
  { id: 'P108', title: 'types do not fit', code: 'rego_type_error' },
  { id: 'P104', title: 'variable without a value', code: 'rego_unsafe_var_error' },
  { id: 'P105', title: 'syntax error', code: 'rego_parse_error' },
  { id: 'P106', title: 'reserved name', code: 'reserved_name' },
  { id: 'P107', title: 'not yours to define', code: 'contract_error' },
  { id: 'P109', title: 'unused', code: 'rego_compile_error', message: /unused/ },
  { id: 'P111', title: 'recursion', code: 'rego_recursion_error' },
  { id: 'P112', title: 'compile error', code: 'rego_compile_error' },
  { id: 'P113', title: 'cannot be built', code: 'build_error' },
  { id: 'P120', title: 'data file', code: 'data_error' },
  { id: 'P121', title: 'file', code: 'source_error' },
  { id: 'P201', title: 'true without arguments', code: 'list_phase' },
  { id: 'P202', title: 'malformed mask', code: 'malformed_mask' },
  { id: 'P203', title: 'rule without effect', code: 'unreachable_rule' },
  { id: 'P204', title: 'lists and calls disagree', code: 'list_contradiction' },
  { id: 'P205', title: 'tool not offered', code: 'unknown_tool' },
  { id: 'P206', title: 'no such upstream', code: 'unknown_upstream' },
  { id: 'P207', title: 'malformed reason', code: 'malformed_reason' },
  { id: 'P301', title: 'YAML', code: 'yaml_error' },
  { id: 'P302', title: 'unknown key', code: 'unknown_key' },
  { id: 'P303', title: 'wrong value', code: 'wrong_value' },
  { id: 'P304', title: 'unknown name', code: 'unknown_name' },
  { id: 'P401', title: 'test rule', code: 'test_error' },
]
const OTHER: MessageKind = { id: 'P100', title: 'policy error', severity: 'error' }

/** The kind of a message. */
export function messageKind({ code, message }: PolicyError): MessageKind {
  const rule = KINDS.find(
    (one) =>
      one.code === code &&
      (one.message?.test(message) ?? true) &&
      (one.ofBuiltin === undefined || OMITTED_BUILTINS.has(message.split(' ').at(-1) ?? '')),
  )
  return rule === undefined ? OTHER : toKind(rule)
}

function toKind({ id, title }: KindRule): MessageKind {
  return { id, title, severity: id.startsWith('P2') ? 'warning' : 'error' }
}

/** All kinds of messages, by their ids. */
export const MESSAGE_KINDS: readonly MessageKind[] = [
  ...new Map([OTHER, ...KINDS.map(toKind)].map((kind) => [kind.id, kind])).values(),
].sort((a, b) => (a.id < b.id ? -1 : 1))

/** How parts of a message are painted; no paint without a terminal. */
export type Paint = (look: 'bad' | 'warn' | 'dim' | 'strong', text: string) => string

const PLAIN: Paint = (_look, text) => text
const WIDTH = 100
/** Digits of a line number, and the space behind them. */
const GUTTER = 5

/** The lines of one message: id and place, the source line with a marker, the way out. */
export function layoutMessage(error: PolicyError, paint: Paint = PLAIN): readonly string[] {
  const kind = messageKind(error)
  const sharp = sharpen(error)
  const look = kind.severity === 'warning' ? 'warn' : 'bad'
  return [
    headLine(error, kind, sharp.col, (text) => paint(look, text)),
    ...sourceLines(error, sharp, (text) => paint(look, text)),
    ...(sharp.hint === null ? [] : note('=', sharp.hint)),
  ]
}

function sourceLines(
  error: PolicyError,
  { text, col, endCol }: Sharp,
  paint: (text: string) => string,
): readonly string[] {
  if (error.line === null || error.row === 0) return note(' ', text)
  const { source, marker } = excerpt(error.line, col, endCol)
  const gutter = `${' '.repeat(GUTTER)} | `
  const first = `${String(error.row).padStart(GUTTER)} | ${source}`.trimEnd()
  const beside = `${marker} ${text}`
  if (gutter.length + [...beside].length <= WIDTH) return [first, `${gutter}${paint(beside)}`]
  return [first, `${gutter}${paint(marker)}`, ...note(' ', text)]
}

function headLine(
  error: PolicyError,
  { id, title, severity }: MessageKind,
  col: number,
  paint: (text: string) => string,
): string {
  const warning = severity === 'warning' ? 'warning: ' : ''
  const left = `${id} ${warning}${title}`
  const place = placeText(error, col)
  const gap = ' '.repeat(Math.max(2, WIDTH - left.length - [...place].length))
  return `${paint(left)}${place === '' ? '' : `${gap}${place}`}`
}

function placeText({ file, row }: PolicyError, col: number): string {
  if (file === '') return ''
  return printable(row > 0 ? `${file}:${row}:${col}` : file)
}

interface Sharp {
  readonly text: string
  readonly hint: string | null
  readonly col: number
  readonly endCol: number
}

/** An unknown field is marked alone, not with the fields above it, and the way out stands beside the mark. */
function sharpen(error: PolicyError): Sharp {
  const { col, endCol = col, hint } = error
  const whole = { text: printable(error.message), hint: hint === null ? null : printable(hint), col, endCol }
  if (messageKind(error).id !== 'P101' || error.line === null) return whole
  const marked = [...error.line].slice(col - 1, Math.max(col, endCol) - 1).join('')
  const [, meant, fields] = /^(?:did you mean (\S+)\? )?(.*)$/s.exec(hint ?? '') ?? []
  const last = /[^.]+$/.exec(marked)?.[0] ?? ''
  const sharp = marked.startsWith('input.') ? { col: endCol - [...last].length, endCol } : { col, endCol }
  const short = meant === undefined ? '' : ` Did you mean \`${shortest(meant, marked)}\`?`
  return {
    text: `no such field.${short}`,
    hint: fields === undefined || fields === '' ? null : printable(fields),
    ...sharp,
  }
}

/** Only the last part when the rest is as written. */
function shortest(meant: string, written: string): string {
  const parent = written.replace(/[^.]+$/, '')
  return meant.startsWith(parent) ? meant.slice(parent.length) : meant
}

/** As much of a long source line as there is room for, with what is marked in it. */
function excerpt(
  line: string,
  col: number,
  endCol: number,
): { readonly source: string; readonly marker: string } {
  const room = WIDTH - GUTTER - 3
  // A tab is two columns here, in the line and above the marker.
  const characters = [...line].flatMap((char) => (char === '\t' ? [' ', ' '] : [char]))
  const shift = [...line].slice(0, col - 1).filter((char) => char === '\t').length
  const begin = col - 1 + shift
  const start = begin > room - 20 ? begin - 40 : 0
  const shown = characters.slice(start, start + room)
  const width = Math.max(1, Math.min(endCol - col, shown.length - (begin - start)))
  return { source: printable(shown.join('')), marker: `${' '.repeat(begin - start)}${'^'.repeat(width)}` }
}

function note(sign: string, text: string): readonly string[] {
  const lead = `${' '.repeat(GUTTER + 1)}${sign} `
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`
    if (longer.length > WIDTH - lead.length && line !== '') {
      lines.push(line)
      line = word
    } else line = longer
  }
  return [...lines, line].map((one, at) => `${at === 0 ? lead : ' '.repeat(lead.length)}${one}`)
}

/** Control and direction characters of a source must not reach a terminal as such. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}]/gu, '\uFFFD')
}
