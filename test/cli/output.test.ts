import { PassThrough } from 'node:stream'
import { expect } from 'chai'
import type { OutputOptions } from '../../src/cli/output.ts'
import { createOutput } from '../../src/cli/output.ts'
import { createProgress } from '../../src/cli/progress.ts'
import { layoutTable } from '../../src/cli/table.ts'
import { cutMiddle, escapeText, textWidth } from '../../src/cli/text.ts'
import { ConfigError } from '../../src/config/problems.ts'
import { UsageError } from '../../src/errors.ts'
import { until } from '../support/until.ts'

describe('text on a terminal', () => {
  it('shows what would be hidden or would act', () => {
    expect(escapeText('a\u001b[31mb\u0007')).to.equal('a\\u{001b}[31mb\\u{0007}')
    expect(escapeText('one\ntwo\ttab\r')).to.equal('one\\ntwo\\ttab\\r')
    for (const hidden of [
      '\u202e',
      '\u2066',
      '\u200b',
      '\u200d',
      '\ufeff',
      '\u00ad',
      '\u2028',
      '\u00a0',
      '\u3164',
      '\u{e0041}',
      '\u009b',
    ]) {
      const code = hidden.codePointAt(0)?.toString(16).padStart(4, '0')
      expect(escapeText(`x${hidden}y`)).to.equal(`x\\u{${code}}y`)
    }
    expect(escapeText('\ud800')).to.equal('\\u{d800}')
  })

  it('leaves letters of all scripts as they are', () => {
    for (const text of ['Ünïcödé', '日本語', 'עברית', 'e\u0301', 'a b'])
      expect(escapeText(text)).to.equal(text)
  })

  it('is cut in the middle, by columns and not by code units', () => {
    expect(cutMiddle('abcdefghij', 5)).to.equal('ab…ij')
    expect(cutMiddle('short', 5)).to.equal('short')
    expect(cutMiddle('abc', 1)).to.equal('…')
    for (const width of [2, 3, 4, 5, 6, 7]) {
      const cut = cutMiddle('日本語日本語', width)
      expect(textWidth(cut)).to.be.at.most(width)
      expect(cut).to.include('…')
    }
    expect(cutMiddle('👍'.repeat(10), 5)).to.equal('👍…👍')
  })
})

describe('a table', () => {
  const rows = [
    ['ada', 12, null],
    ['日本', 3, 'long '.repeat(30)],
  ] as const

  it('is aligned and fits the terminal', () => {
    const lines = layoutTable(['name', 'calls', 'note'], rows, { width: 60 })
    expect(lines[0]).to.match(/^NAME {2}CALLS {2}NOTE/)
    expect(lines[1]).to.equal('ada      12  -')
    expect(lines[2]).to.match(/^日本 {6}3 {2}long/)
    for (const line of lines) expect(textWidth(line)).to.be.at.most(60)
  })

  it('is tab-separated and without a header when it is piped', () => {
    expect(layoutTable(['a', 'b', 'c'], rows, 'tabs')[0]).to.equal('ada\t12\t')
  })

  it('cannot be broken up by its values', () => {
    const [line] = layoutTable(['a'], [['x\ty\nz\u001b[2J']], 'tabs')
    expect(line).to.equal('x\\ty\\nz\\u{001b}[2J')
  })
})

describe('the output of a command', () => {
  const open = (options: OutputOptions = {}) => {
    const streams = { stdout: new PassThrough(), stderr: new PassThrough() }
    const out = createOutput(options, streams)
    const read = () => ({
      stdout: String(streams.stdout.read() ?? ''),
      stderr: String(streams.stderr.read() ?? ''),
    })
    return { out, read }
  }

  it('is data on stdout and talk on stderr, without colour when piped', () => {
    const { out, read } = open()
    out.line(out.style('good', 'ok'))
    out.note('by the way')
    out.next('gateway serve')
    expect(read()).to.deep.equal({ stdout: 'ok\n', stderr: 'by the way\nNext: gateway serve\n' })
  })

  it('is silent besides data under --json', () => {
    const { out, read } = open({ json: true })
    out.note('by the way')
    out.next('gateway serve')
    out.json([1])
    expect(read()).to.deep.equal({ stdout: '[\n  1\n]\n', stderr: '' })
  })

  it('tells errors with their way out and an exit code', () => {
    const { out, read } = open()
    expect(out.fail(new UsageError('not_found', 'no key \u001b[2J'))).to.equal(2)
    expect(read().stderr).to.equal('error: no key \\u{001b}[2J\n')
    expect(out.fail(new UsageError('check_failed', 'x'))).to.equal(1)
    expect(out.fail(new UsageError('interrupted', 'x'))).to.equal(130)
    expect(out.fail(new TypeError('x is not a function'))).to.equal(2)
    expect(read().stderr).to.include('fault of the gateway').and.include('TypeError')
  })

  it('tells errors as one JSON line under --json, with all problems of a configuration', () => {
    const { out, read } = open({ json: true })
    const problem = { at: 'gateway.yaml:1:1', path: 'listen', message: 'm', hint: null }
    expect(out.fail(new ConfigError([problem]))).to.equal(2)
    const lines = read().stderr.split('\n')
    expect(lines).to.have.length(2)
    expect(JSON.parse(lines[0] ?? '')).to.deep.include({ code: 'config', problems: [problem] })
  })

  it('tells long steps once they take long, and short ones never', async () => {
    const told: string[] = []
    const tell = (text: string) => told.push(text)
    expect(await createProgress(tell).run('quick', async () => 5)).to.equal(5)
    expect(told).to.deep.equal([])
    await createProgress(tell, 1).run('slow', async (progress) => {
      progress.step('first')
      await until('the first line', () => told.length > 0)
      progress.step('second')
    })
    expect(told).to.deep.equal(['first ...', 'second ...'])
  })
})
