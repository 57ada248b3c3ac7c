/** What the tests of policies cover, for people, for programs and for editors (lcov). */
import type { Coverage, CoverageFile, CoverageItem, UnproducedReason } from '../policy/testing/coverage.ts'
import { countItems } from '../policy/testing/coverage.ts'
import type { ReportLayout } from './policy-test-lines.ts'
import { cutMiddle, escapeText, textWidth } from './text.ts'
import { oneLine, WIDTH } from './tree-lines.ts'

const MAX_FILE = 36
const MAX_ITEMS = 40
const PLACE_WIDTH = 28
const STATES = { never_true: 'never true', never_reached: 'never reached', covered: 'covered' } as const

/** The lines to print. Foreign text in them is escaped. */
export function layoutCoverage(
  { files, unproduced, counts }: Coverage,
  threshold: number | null,
  layout: ReportLayout,
): readonly string[] {
  const width = Math.min(MAX_FILE, Math.max(8, ...files.map(({ file }) => textWidth(escapeText(file)))))
  const head = `  ${' '.repeat(width)}  expressions   covered   never true   never reached`
  const uncovered = files.flatMap(({ file, items }) =>
    items.filter(({ state }) => state !== 'covered').map((item) => ({ file, item })),
  )
  const shown = layout.full ? uncovered : uncovered.slice(0, MAX_ITEMS)
  const more = uncovered.length - shown.length
  return [
    '',
    layout.out.style('dim', head),
    ...files.map((file) => fileLine(file, width)),
    ...shown.flatMap(({ file, item }) => itemLines(file, item, layout)),
    ...(more > 0 ? [`  .. ${more} more: --full`] : []),
    ...reasonLines(unproduced, layout),
    totalLine(counts.percent, counts.expressions, threshold),
  ]
}

function fileLine({ file, items }: CoverageFile, width: number): string {
  const { expressions, covered, neverTrue, neverReached, percent } = countItems(items)
  const name = cutMiddle(escapeText(file), width)
  const cells = [
    String(expressions).padStart(13),
    String(covered).padStart(10),
    String(neverTrue).padStart(13),
    String(neverReached).padStart(16),
    `${percentText(percent)} %`.padStart(10),
  ]
  return `  ${name}${' '.repeat(width - textWidth(name))}${cells.join('')}`
}

function itemLines(file: string, item: CoverageItem, { out, full }: ReportLayout): readonly string[] {
  const place = cutMiddle(escapeText(`${file}:${item.row}`), PLACE_WIDTH)
  const state = STATES[item.state].padEnd(13)
  const lead = `  ${place}${' '.repeat(PLACE_WIDTH - textWidth(place))}  ${out.style('warn', state)}  `
  const room = WIDTH - PLACE_WIDTH - 19
  const text = escapeText(oneLine(item.text))
  const why = whyText(item)
  const both = `${text}   ${why}`
  if (full || textWidth(both) <= room) return [lead + both]
  return [lead + cutMiddle(text, room), `${' '.repeat(PLACE_WIDTH + 19)}${cutMiddle(why, room)}`]
}

function whyText({ state, reached, behind }: CoverageItem): string {
  if (state === 'never_true')
    return `(${reached} evaluation${reached === 1 ? '' : 's'}, ${reached === 1 ? 'false' : 'always false'})`
  return behind === null ? '(its body was never begun)' : `(line ${behind} never held)`
}

function reasonLines(
  unproduced: readonly UnproducedReason[],
  { full, out }: ReportLayout,
): readonly string[] {
  if (unproduced.length === 0) return []
  const shown = full ? unproduced : unproduced.slice(0, MAX_ITEMS)
  const more = unproduced.length - shown.length
  return [
    `  ${out.style('warn', 'reasons no test produced:')}`,
    ...shown.map(({ rule, reason, file, row }) => {
      const what = `${rule} ${reason === null ? '(no constant reason)' : JSON.stringify(reason)}`
      return cutMiddle(`    ${escapeText(what)}  ${escapeText(file)}:${row}`, full ? 1000 : WIDTH)
    }),
    ...(more > 0 ? [`    .. ${more} more: --full`] : []),
  ]
}

function totalLine(percent: number, expressions: number, threshold: number | null): string {
  const line = `coverage ${percentText(percent)} % of ${expressions} expression${expressions === 1 ? '' : 's'}`
  if (threshold === null) return line
  return `${line}: threshold ${threshold} % ${percent < threshold ? 'missed' : 'met'}`
}

/** Never rounded up: 99.96 is not 100. */
export function percentText(percent: number): string {
  return (Math.floor(percent * 10) / 10).toFixed(1)
}

/** The coverage as programs read it. */
export function toCoverageDocument({ files, unproduced, counts }: Coverage): object {
  const numbers = ({ expressions, covered, neverTrue, neverReached, percent }: Coverage['counts']) => ({
    expressions,
    covered,
    never_true: neverTrue,
    never_reached: neverReached,
    percent: Math.floor(percent * 100) / 100,
  })
  return {
    ...numbers(counts),
    files: files.map(({ file, items }) => ({
      file,
      ...numbers(countItems(items)),
      uncovered: items
        .filter(({ state }) => state !== 'covered')
        .map(({ row, col, text, rule, state, reached, behind }) => ({
          ...{ row, col, text, rule, state, reached },
          ...(behind === null ? {} : { behind_row: behind }),
        })),
    })),
    unproduced_reasons: unproduced,
  }
}

/**
 * The coverage in the format of lcov (geninfo(1)). An expression is a branch: `-` = never reached, 0 = never true. A line
 * counts as hit as often as the least of its expressions held.
 * @param toPath from a file's name in the folder to the path that the reader knows it by
 */
export function toLcov({ files }: Coverage, toPath: (file: string) => string): string {
  return files.map(({ file, items, rules }) => lcovFile(toPath(file), items, rules)).join('')
}

function lcovFile(path: string, items: readonly CoverageItem[], rules: CoverageFile['rules']): string {
  const names = rules.map((rule) => ({ ...rule, name: `${rule.path.replace(/[\r\n,]/g, ' ')}@${rule.row}` }))
  const functions = [...new Map(names.map((rule) => [rule.name, rule])).values()].map((rule) => ({
    ...rule,
    entered: names.filter(({ name }) => name === rule.name).reduce((sum, { entered }) => sum + entered, 0),
  }))
  const lines = new Map<number, number>()
  for (const { row, held } of items) lines.set(row, Math.min(held, lines.get(row) ?? held))
  return `${[
    'TN:',
    `SF:${path.replace(/[\r\n]/g, ' ')}`,
    ...functions.map(({ row, name }) => `FN:${row},${name}`),
    ...functions.map(({ entered, name }) => `FNDA:${entered},${name}`),
    `FNF:${functions.length}`,
    `FNH:${functions.filter(({ entered }) => entered > 0).length}`,
    ...items.map(
      ({ row, state, held }, index) => `BRDA:${row},${index},0,${state === 'never_reached' ? '-' : held}`,
    ),
    `BRF:${items.length}`,
    `BRH:${items.filter(({ held }) => held > 0).length}`,
    ...[...lines].map(([row, held]) => `DA:${row},${held}`),
    `LF:${lines.size}`,
    `LH:${[...lines.values()].filter((held) => held > 0).length}`,
    'end_of_record',
  ].join('\n')}\n`
}
