import { expect } from 'chai'
import fc from 'fast-check'
import type { SseEvent } from '../../src/gateway/types.ts'
import { encodeEvent, encodeMessage } from '../../src/sse.ts'
import { createSseParser, SseError } from '../../src/upstream/sse.ts'

const MAX = 4096

function parse(chunks: readonly (string | Buffer)[], maxEventBytes = MAX): SseEvent[] {
  const parser = createSseParser({ maxEventBytes })
  return chunks.flatMap((chunk) => parser.push(Buffer.from(chunk)))
}

const fields = (event: SseEvent | undefined) => ({
  data: event?.data,
  id: event?.id,
  event: event?.event,
  retry: event?.retry,
})
const raws = (events: readonly SseEvent[]) => events.map((event) => event.raw.toString())

describe('the server-sent events parser', () => {
  it('keeps the exact bytes of an event with its blank line', () => {
    const [event, ...rest] = parse(['event: message\nid: 7\ndata: {"a":1}\n\n'])
    expect(rest).to.deep.equal([])
    expect(fields(event)).to.deep.equal({ data: '{"a":1}', id: '7', event: 'message', retry: null })
    expect(event?.raw.toString()).to.equal('event: message\nid: 7\ndata: {"a":1}\n\n')
  })

  it('shows where data of one line stands in the event, so that an unchanged message leaves as it came', () => {
    const block = 'id:7\nevent: message\ndata:{"ü":1}\nretry: 5\n\n'
    const parser = createSseParser({ maxEventBytes: MAX })
    const chunks = [block.slice(0, 9), block.slice(9)].map((part) => Buffer.from(part))
    const [event] = chunks.flatMap((chunk) => parser.push(chunk))
    const message = event?.dataBytes as Buffer
    expect(message.toString()).to.equal('{"ü":1}')
    expect(encodeMessage(message, event as SseEvent).toString()).to.equal(block)
    const fields = 'event: message\nid: 7\nretry: 5\n'
    const same = encodeMessage(Buffer.from(message.toString()), event as SseEvent)
    expect(same.toString()).to.equal(`${fields}data: {"ü":1}\n\n`)
    const spaced = encodeMessage(Buffer.from('{\r\n}'), event as SseEvent)
    expect(spaced.toString()).to.equal(`${fields}data: {\ndata: }\n\n`)
  })

  it('shows no such place for data in pieces, or in an event that has to be encoded anew', () => {
    for (const text of ['data: {\ndata: }\n\n', 'data: {}\r\n\r\n', 'data: {}\nx: y\n\n', 'id: 1\n\n']) {
      const [event] = createSseParser({ maxEventBytes: MAX }).push(Buffer.from(text))
      expect(event, text).to.include({ dataBytes: null })
    }
  })

  it('joins data lines with a line feed and strips one leading space', () => {
    expect(parse(['data:a\ndata:  b\ndata\n\n'])[0]?.data).to.equal('a\n b\n')
  })

  it('tells an empty data field (a priming event) from no data field', () => {
    expect(fields(parse(['id: 1\ndata:\n\n'])[0]).data).to.equal('')
    expect(fields(parse(['id: 1\nretry: 500\n\n'])[0])).to.deep.equal({
      data: null,
      id: '1',
      event: null,
      retry: '500',
    })
  })

  it('drops comments and blocks that hold nothing else', () => {
    const events = parse([': keep-alive\n\n\n\n', ': secret of the upstream\ndata: x\n\n'])
    expect(raws(events)).to.deep.equal(['data: x\n\n'])
  })

  it('encodes anew whatever another parser might read differently', () => {
    expect(raws(parse(['data: a\r\n\r\n']))).to.deep.equal(['data: a\n\n'])
    expect(raws(parse(['data: a\rdata: b\r\r']))).to.deep.equal(['data: a\ndata: b\n\n'])
    expect(raws(parse(['unknown: 1\ndata: a\n\n']))).to.deep.equal(['data: a\n\n'])
    expect(raws(parse(['retry: soon\nid: a\0b\ndata: a\n\n']))).to.deep.equal(['data: a\n\n'])
  })

  it('skips a byte order mark at the start only', () => {
    expect(raws(parse(['\uFEFFdata: a\n\n']))).to.deep.equal(['data: a\n\n'])
    expect(parse(['data: a\n\n', '\uFEFFdata: b\n\n']).map((event) => event.data)).to.deep.equal(['a'])
  })

  it('does not wait for the LF of a CRLF before it gives the event', () => {
    const parser = createSseParser({ maxEventBytes: MAX })
    expect(parser.push(Buffer.from('data: a\r\n\r'))).to.have.length(1)
    expect(parser.push(Buffer.from('\ndata: b\r\n\r\n')).map((event) => event.data)).to.deep.equal(['b'])
  })

  it('keeps an unfinished event to itself', () => {
    expect(parse(['data: a\n'])).to.deep.equal([])
  })

  it('refuses invalid UTF-8', () => {
    expect(() => parse([Buffer.from([0x64, 0x61, 0x74, 0x61, 0x3a, 0xff, 0x0a, 0x0a])])).to.throw(SseError)
  })

  it('refuses an event, a line or a run of comments over the bound, finished or not', () => {
    for (const flood of [`data: ${'x'.repeat(MAX)}`, 'data: x\n'.repeat(MAX), ': comment\n'.repeat(MAX)]) {
      expect(() => parse([flood])).to.throw(SseError, '4096')
      expect(() => parse([...flood])).to.throw(SseError, '4096')
    }
    expect(parse(['data: x\n\n'.repeat(MAX)])).to.have.length(MAX)
  })

  it('gives the same events however the bytes are cut', () => {
    const piece = fc.constantFrom(
      'data',
      'id',
      'event',
      'retry',
      ':',
      ': ',
      ' ',
      '\n',
      '\n',
      '\r',
      '\r\n',
      '\n\n',
      'x',
      '12',
      '{"é":"😀"}',
      '\uFEFF',
      '\0',
    )
    const cuts = fc.array(fc.nat({ max: 60 }), { maxLength: 20 })
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), cuts, (pieces, at) => {
        const bytes = Buffer.from(pieces.join(''))
        const sorted = [0, ...at.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length]
        const chunks = sorted.slice(1).map((end, index) => bytes.subarray(sorted[index], end))
        const whole = parse([bytes])
        expect(parse(chunks)).to.deep.equal(whole)
        // Every event stands on its own: its raw bytes read as itself.
        for (const event of whole) expect(parse([event.raw]).map(fields)).to.deep.equal([fields(event)])
      }),
      { numRuns: 2000 },
    )
  })

  it('reads back what it encodes', () => {
    const line = fc.string({ unit: 'grapheme' }).map((text) => text.replaceAll(/[\r\n\0]/g, ''))
    const optional = fc.option(line)
    fc.assert(
      fc.property(
        fc.option(fc.array(line, { minLength: 1 })),
        optional,
        optional,
        fc.option(fc.nat()),
        (data, id, event, retry) => {
          const original = {
            data: data === null ? null : data.join('\n'),
            id,
            event,
            retry: retry === null ? null : String(retry),
          }
          const read = parse([encodeEvent(original)], 1 << 20)
          const empty = Object.values(original).every((value) => value === null)
          expect(read.map(fields)).to.deep.equal(empty ? [] : [original])
        },
      ),
    )
  })
})
