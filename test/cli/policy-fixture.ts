/** Runs `gateway policy ..` in this process and compares what it prints with files. */
import { readFileSync, writeFileSync } from 'node:fs'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { run } from '../../src/cli/run.ts'

/** What a command printed. */
export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command line; `terminal`: as on one. */
export async function gateway(args: readonly string[], terminal = false): Promise<Ran> {
  const stdout = Object.assign(new PassThrough(), { isTTY: terminal })
  const streams = { stdout, stderr: new PassThrough() }
  const code = await run(terminal ? args : [...args, '--no-color'], streams)
  return { code, stdout: String(streams.stdout.read() ?? ''), stderr: String(streams.stderr.read() ?? '') }
}

/**
 * Compares with test/golden/policy/NAME.txt. `UPDATE_GOLDEN=1` writes the file instead. Folder, revision, digests and times
 * have stand-ins, and every line fits 100 columns.
 */
export function expectGolden(name: string, printed: string, folder: string): void {
  const file = fileURLToPath(new URL(`../golden/policy/${name}.txt`, import.meta.url))
  const text = normalised(printed, folder)
  for (const line of printed.split('\n'))
    expect([...line.replaceAll(folder, 'policies')].length, line).to.be.at.most(100)
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(file, text)
  expect(text).to.equal(readFileSync(file, 'utf8'))
}

/** Folder, revision, digests and times have stand-ins. */
export function normalised(text: string, folder: string): string {
  return text
    .replaceAll(folder, 'policies')
    .replace(/\b[0-9a-f]{12}\b/g, 'REVISION')
    .replace(/sha256:[0-9a-f]{8}…[0-9a-f]{4}/g, 'sha256:DIGEST')
    .replace(/opa \d+\.\d+\.\d+/g, 'opa VERSION')
    .replace(/\d+ ms\b/g, 'N ms')
    .replace(/\d+\.\d\d s\b/g, 'N s')
    .replace(/\d+ us, \d+ fuel/g, 'N us, N fuel')
}
