import { expect } from 'chai'
import type { Rooms } from '../../src/gateway/call.ts'
import { createServerRequestGate } from '../../src/gateway/server-request.ts'
import type { AskedOfClient, Call } from '../../src/gateway/types.ts'
import { callAt } from '../support/call.ts'

describe('requests to clients', () => {
  const BOUND = 'x'.repeat(16_384)
  const gate = createServerRequestGate({
    http: { bindServerRequest: (_: Call, { idText }: AskedOfClient) => `${BOUND}${idText}` },
  } as unknown as Rooms)
  const call = callAt('desk', {})

  const outward = (message: object): Record<string, unknown> =>
    JSON.parse(gate.outward(call, JSON.stringify(message), message as Record<string, unknown>))
  const ask = (id: number): unknown => outward({ method: 'sampling/createMessage', id })['id']
  const takeBack = (requestId: number): unknown =>
    outward({ method: 'notifications/cancelled', params: { requestId } })['params']

  it('are taken back under the id that the client knows, as long as that id is remembered', () => {
    expect(ask(1)).to.equal(`${BOUND}1`)
    expect(takeBack(1)).to.deep.equal({ requestId: `${BOUND}1` })
    // However long ids are, they do not take more than a bounded part of memory.
    for (let id = 2; id < 2000; id += 1) ask(id)
    expect(takeBack(1999)).to.deep.equal({ requestId: `${BOUND}1999` })
    expect(takeBack(1)).to.deep.equal({ requestId: 1 })
  })
})
