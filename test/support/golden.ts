/** Texts that people read, kept as files. */
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'

/** Compares with test/golden/NAME.txt. `UPDATE_GOLDEN=1` writes the file instead. */
export function expectGoldenText(name: string, text: string): void {
  const file = fileURLToPath(new URL(`../golden/${name}.txt`, import.meta.url))
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(file, `${text}\n`)
  expect(`${text}\n`).to.equal(readFileSync(file, 'utf8'))
}
