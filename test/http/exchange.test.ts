import { expect } from 'chai'
import type { Exchange, SseEvent } from '../../src/gateway/types.ts'
import { aborted, closeDoors, gate, jsonReply, openDoor, rawClient, rawPost } from './fixtures.ts'

const STREAM = { status: 200, headers: { 'content-type': 'text/event-stream', 'x-request-id': 'r1' } }

function event(data: string, fields: Partial<SseEvent> = {}): SseEvent {
  return { raw: Buffer.from(`data: ${data}\n\n`), data, id: null, event: null, retry: null, ...fields }
}

describe('an exchange', () => {
  afterEach(closeDoors)

  it('sends head and events at once, and the final message as the last event', async () => {
    const step = [gate(), gate()] as const
    const { address } = await openDoor(async (exchange) => {
      exchange.open(STREAM)
      expect(exchange.opened).to.equal(true)
      await step[0].promise
      await exchange.write(event('{"progress":1}'))
      await step[1].promise
      await exchange.finish({
        ...STREAM,
        message: Buffer.from('{"id":1,\n"result":{}}'),
        frame: event('old', { id: '7', event: 'message', retry: '100' }),
      })
    })
    const client = await rawClient(address, rawPost('{}'))
    await client.until(/HTTP\/1\.1 200 OK[\s\S]*text\/event-stream[\s\S]*\r\n\r\n/)
    step[0].open()
    await client.until(/data: \{"progress":1\}\n\n/)
    step[1].open()
    await client.until(/event: message\nid: 7\nretry: 100\ndata: \{"id":1,\ndata: "result":\{\}\}\n\n/)
    client.socket.destroy()
  })

  it('puts a refusal after the head into an event of its own', async () => {
    const { url } = await openDoor(async (exchange) => {
      exchange.open(STREAM)
      await exchange.finish(jsonReply({ jsonrpc: '2.0', id: 3, error: { code: 1502 } }, 502))
    })
    const answer = await fetch(`${url}/mcp/a`, { method: 'POST', body: '{}' })
    expect(answer.status).to.equal(200)
    expect(await answer.text()).to.equal(
      'event: message\ndata: {"jsonrpc":"2.0","id":3,"error":{"code":1502}}\n\n',
    )
  })

  it('ends a GET stream without a word about refusals', async () => {
    const { url } = await openDoor(async (exchange) => {
      exchange.open(STREAM)
      await exchange.write(event('1'))
      await exchange.finish(jsonReply({ error: 1 }, 403))
    })
    expect(await (await fetch(`${url}/mcp/a`)).text()).to.equal('data: 1\n\n')
  })

  it('encodes edited events from their fields', async () => {
    const { url } = await openDoor(async (exchange) => {
      exchange.open(STREAM)
      await exchange.write(
        event('{"a":\n1}', { raw: Buffer.alloc(0), id: '9\r\nevent: x', event: 'message' }),
      )
      await exchange.write(event('', { raw: Buffer.alloc(0), data: null, retry: '5' }))
      await exchange.finish({ ...STREAM, message: null, frame: null })
    })
    expect(await (await fetch(`${url}/mcp/a`)).text()).to.equal(
      'event: message\nid: 9event: x\ndata: {"a":\ndata: 1}\n\nretry: 5\n\n',
    )
  })

  it('answers an unopened exchange whole: JSON, an event, or nothing', async () => {
    const { url } = await openDoor(async (exchange) => {
      const wanted = exchange.head.headers['x-want']
      if (wanted === 'none') await exchange.finish({ status: 202, headers: {}, message: null, frame: null })
      else if (wanted === '204')
        await exchange.finish({ status: 204, headers: {}, message: null, frame: null })
      else if (wanted === 'event') {
        await exchange.finish({ ...STREAM, message: Buffer.from('{}'), frame: event('{}', { id: '1' }) })
      } else await exchange.finish(jsonReply({ a: 1 }))
      await exchange.finish(jsonReply({ second: true }))
    })
    const ask = async (want: string) => {
      const answer = await fetch(`${url}/mcp/a`, { method: 'POST', body: '{}', headers: { 'x-want': want } })
      return [answer.status, answer.headers.get('content-length'), await answer.text()]
    }
    expect(await ask('json')).to.deep.equal([200, '7', '{"a":1}'])
    expect(await ask('none')).to.deep.equal([202, '0', ''])
    expect(await ask('204')).to.deep.equal([204, null, ''])
    expect(await ask('event')).to.deep.equal([200, '16', 'id: 1\ndata: {}\n\n'])
  })

  it('cuts the connection rather than reject when a head cannot be written', async () => {
    const ended = gate<string>()
    const { address } = await openDoor(async (exchange) => {
      const bad = { status: 200, headers: { 'x-bad': 'a\r\nb' } }
      try {
        exchange.open(bad)
      } catch {
        await exchange.finish({ ...bad, message: null, frame: null })
        ended.open(`opened: ${exchange.opened}`)
      }
    })
    const client = await rawClient(address, rawPost('{}'))
    expect(await client.closed()).to.equal('')
    expect(await ended.promise).to.equal('opened: false')
  })

  it('aborts the signal when the client leaves, and swallows what is written after that', async () => {
    const seen = gate()
    const done = gate<string>()
    const { address } = await openDoor(async (exchange) => {
      exchange.open(STREAM)
      seen.open()
      await aborted(exchange.signal)
      await exchange.write(event('x'))
      await exchange.finish(jsonReply({}))
      done.open(String((exchange.signal.reason as { kind: string }).kind))
    })
    const client = await rawClient(address, rawPost('{}'))
    await seen.promise
    client.socket.destroy()
    expect(await done.promise).to.equal('client_closed')
  })

  it('has an aborted signal also when the client had left before anyone asked', async () => {
    const seen = gate()
    const checked = gate<boolean>()
    const { address } = await openDoor(async (exchange) => {
      seen.open()
      await exchange.readBody(100).catch(() => undefined)
      // The body's end is noticed first, the connection's a moment later.
      await new Promise((resolve) => setImmediate(resolve))
      checked.open(exchange.signal.aborted)
    })
    const client = await rawClient(address, 'POST /mcp/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n')
    await seen.promise
    client.socket.destroy()
    expect(await checked.promise).to.equal(true)
  })

  it('does not abort the signal of an exchange that was finished', async () => {
    const exchanges: Exchange[] = []
    const { address } = await openDoor(async (exchange) => {
      exchanges.push(exchange)
      expect(exchange.signal.aborted).to.equal(false)
      await exchange.finish(jsonReply({ done: 1 }))
    })
    const client = await rawClient(address, rawPost('{}'))
    await client.until(/"done":1/)
    client.socket.destroy()
    await client.closed()
    await closeDoors()
    expect(exchanges[0]?.signal.reason).to.equal(undefined)
  })

  it('waits for a slow reader instead of piling up what it has not read', async () => {
    const chunk = event('x'.repeat(64 * 1024))
    const blocked = gate()
    let written = 0
    const { address } = await openDoor(async (exchange) => {
      exchange.open(STREAM)
      const write = async () => {
        for (; written < 2000; written += 1) await exchange.write(chunk)
      }
      const writing = write()
      // Writing must come to a halt on its own: the count stands still over many turns of the event loop.
      let last = -1
      for (let still = 0; still < 50; still = written === last ? still + 1 : 0) {
        last = written
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
      blocked.open()
      await writing
      await exchange.finish({ ...STREAM, message: Buffer.from('{"last":1}'), frame: null })
    })
    const client = await rawClient(address)
    client.socket.pause()
    client.socket.write(rawPost('{}'))
    await blocked.promise
    expect(written).to.be.lessThan(500)
    client.socket.destroy()
  })

  it('cuts a client that leaves what was written unread', async () => {
    const over = gate<boolean>()
    const { address } = await openDoor(
      async (exchange) => {
        exchange.open(STREAM)
        while (!exchange.signal.aborted) await exchange.write(event('x'.repeat(64 * 1024)))
        over.open(true)
        await exchange.finish(jsonReply({}))
      },
      { writeStallMs: 50 },
    )
    const client = await rawClient(address)
    client.socket.pause()
    client.socket.write(rawPost('{}'))
    expect(await over.promise).to.equal(true)
    client.socket.destroy()
  })

  it('cuts a client that leaves a whole reply unread', async () => {
    const over = gate<boolean>()
    const { address } = await openDoor(
      async (exchange) => {
        await exchange.finish({ ...jsonReply({}), message: Buffer.alloc(16 * 1024 * 1024, 'x') })
        over.open(true)
      },
      { writeStallMs: 50 },
    )
    const client = await rawClient(address)
    client.socket.pause()
    client.socket.write(rawPost('{}'))
    expect(await over.promise).to.equal(true)
    client.socket.destroy()
  })

  it('keeps quiet streams alive with comments', async () => {
    const { address } = await openDoor(
      async (exchange) => {
        exchange.open(STREAM)
        await aborted(exchange.signal)
      },
      { streamKeepAliveMs: 10 },
    )
    const client = await rawClient(address, rawPost('{}'))
    await client.until(/: keep-alive\n\n[\s\S]*: keep-alive\n\n/)
    client.socket.destroy()
  })
})
