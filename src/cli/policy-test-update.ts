/** `gateway policy test --update`: shows what becomes of the tables, and writes them. */
import type { TestReport } from '../policy/testing/report.ts'
import { loadTableCheck } from '../policy/testing/table-schema.ts'
import type { NotUpdated, TableUpdate } from '../policy/testing/update.ts'
import { planUpdates } from '../policy/testing/update.ts'
import type { Output } from './output.ts'
import { writeTable } from './policy-test-files.ts'
import { titleOf } from './policy-test-outcome.ts'
import { cutMiddle, escapeText } from './text.ts'
import { WIDTH } from './tree-lines.ts'

/** Writes the tables; returns how many tests still fail. Throws UsageError when a table cannot be written. */
export async function updateTables(
  out: Output,
  folder: string,
  report: TestReport,
  tables: Readonly<Record<string, string>>,
): Promise<number> {
  const plan = planUpdates(tables, report.cases, await loadTableCheck())
  const rules = report.results.filter(({ kind, outcome }) => kind === 'rule' && outcome === 'failed')
  const left = [
    ...rules.map((result) => ({ result, reason: 'a rule test_.. is written by hand' })),
    ...plan.left,
  ]
  for (const table of plan.tables) {
    if (!out.isJson) for (const line of tableLines(table, out)) out.line(line)
    await writeTable(folder, table)
  }
  if (out.isJson) out.json(toUpdateDocument(plan.tables, left))
  else for (const line of endLines(plan.tables, left, out)) out.line(line)
  return left.length
}

function tableLines({ file, hunks }: TableUpdate, out: Output): readonly string[] {
  const lines = (look: 'good' | 'bad', sign: string, texts: readonly string[], row: number) =>
    texts.map((text, index) =>
      out.style(look, cutMiddle(`  ${sign} ${String(row + index).padStart(4)}  ${escapeText(text)}`, WIDTH)),
    )
  return [
    out.style('strong', escapeText(file)),
    ...hunks.flatMap(({ row, removed, added }) => [
      ...lines('bad', '-', removed, row),
      ...lines('good', '+', added, row),
    ]),
  ]
}

function endLines(
  tables: readonly TableUpdate[],
  left: readonly NotUpdated[],
  out: Output,
): readonly string[] {
  const count = tables.reduce((sum, { updated }) => sum + updated.length, 0)
  const files = `${tables.length} file${tables.length === 1 ? '' : 's'}`
  const told = left.map(({ result, reason }) => {
    const name = `${escapeText(result.place.file)}:${result.place.row} ${titleOf(result)}`
    return `  ${out.style('warn', 'not updated')}  ${cutMiddle(`${name}: ${reason}`, WIDTH - 15)}`
  })
  if (count === 0) return [...told, 'Nothing was updated.']
  const tests = `${count} test${count === 1 ? '' : 's'}`
  return [
    ...told,
    `${tests} updated in ${files}. Read the difference: it is what the policies say, right or wrong.`,
  ]
}

function toUpdateDocument(tables: readonly TableUpdate[], left: readonly NotUpdated[]): object {
  return {
    files: tables.map(({ file, hunks, updated }) => ({
      file,
      hunks,
      updated: updated.map(({ place, name, labels }) => ({ row: place.row, name, labels })),
    })),
    not_updated: left.map(({ result, reason }) => ({
      file: result.place.file,
      row: result.place.row,
      name: result.name,
      labels: result.labels,
      reason,
    })),
  }
}
