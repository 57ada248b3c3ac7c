import { expect } from 'chai'
import type { Exchange, Reply } from '../../src/gateway/types.ts'
import { shareExchange } from '../../src/http/batch.ts'
import { exchangeOf, headOf, jsonReply } from './fixtures.ts'

interface Recorded {
  readonly exchange: Exchange
  readonly opened: number[]
  readonly written: string[]
  readonly finished: Reply[]
}

function record(): Recorded {
  const opened: number[] = []
  const written: string[] = []
  const finished: Reply[] = []
  const base = exchangeOf(headOf('POST', {}), '')
  const exchange: Exchange = {
    ...base,
    get opened() {
      return opened.length > 0
    },
    open: (head) => void opened.push(head.status),
    write: async (event) => void written.push(event.data ?? ''),
    finish: async (reply) => void finished.push(reply),
  }
  return { exchange, opened, written, finished }
}

const request = { body: Buffer.from('{}'), isRequest: true }
const notice = { body: Buffer.from('{}'), isRequest: false }
const textOf = (reply: Reply | undefined): string => String(reply?.message)

describe('an exchange that a batch shares', () => {
  it('is answered once, when the last element has ended, in the order of the elements', async () => {
    const { exchange, finished } = record()
    const [one, two] = shareExchange(exchange, [request, request])
    await two?.finish(jsonReply({ id: 2 }))
    expect(finished).to.have.length(0)
    await one?.finish(jsonReply({ id: 1 }))
    expect(finished.map(textOf)).to.deep.equal(['[{"id":1},{"id":2}]'])
  })

  it('has the status and the headers on which all answers agree', async () => {
    const { exchange, finished } = record()
    const [one, two] = shareExchange(exchange, [request, request])
    const shared = { 'x-request-id': 'r' }
    await one?.finish({ ...jsonReply({}, 429), headers: { ...shared, 'retry-after': '3' } })
    await two?.finish({ ...jsonReply({}, 403), headers: shared })
    expect(finished[0]).to.deep.include({ status: 200 })
    expect(finished[0]?.headers).to.deep.equal({ ...shared, 'content-type': 'application/json' })
  })

  it('of notifications has the first refusal, else what the upstream said', async () => {
    const { exchange, finished } = record()
    const [one, two] = shareExchange(exchange, [notice, notice])
    await one?.finish({ ...jsonReply({}, 202), message: null })
    await two?.finish(jsonReply({ error: {} }, 403))
    expect([finished[0]?.status, textOf(finished[0])]).to.deep.equal([403, '{"error":{}}'])
  })

  it('becomes a stream with the first answer that is one; what had ended before comes first', async () => {
    const { exchange, opened, written, finished } = record()
    const [one, two, three, four] = shareExchange(exchange, [request, request, notice, request])
    await one?.finish(jsonReply({ id: 1 }))
    await three?.finish(jsonReply({ error: {} }, 403))
    two?.open({ status: 200, headers: {} })
    four?.open({ status: 200, headers: {} })
    await four?.finish(jsonReply({ id: 4 }))
    await two?.finish(jsonReply({ id: 2 }))
    expect(opened).to.deep.equal([200])
    expect([...written, textOf(finished[0])]).to.deep.equal(['{"id":1}', '{"id":4}', '{"id":2}'])
  })

  it('ends without a message when the last element of a stream is not answered', async () => {
    const { exchange, finished } = record()
    const [one, two] = shareExchange(exchange, [request, notice])
    one?.open({ status: 200, headers: {} })
    await one?.finish(jsonReply({ id: 1 }))
    await two?.finish(jsonReply({ error: {} }, 403))
    expect(finished.map(({ message }) => message)).to.deep.equal([null])
  })

  it('gives each element a head of its own, the common signal and its own body', async () => {
    const { exchange } = record()
    const parts = shareExchange(exchange, [request, { ...request, body: Buffer.from('[1]') }])
    expect(new Set([exchange.head, ...parts.map(({ head }) => head)])).to.have.length(3)
    expect(parts.every(({ signal }) => signal === exchange.signal)).to.equal(true)
    expect(String(await parts[1]?.readBody(9))).to.equal('[1]')
    expect(await parts[1]?.peekBody(2)).to.equal(null)
  })
})
