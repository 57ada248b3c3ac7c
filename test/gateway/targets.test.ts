import { expect } from 'chai'
import { GatewayError } from '../../src/errors.ts'
import { targetOf } from '../../src/gateway/targets.ts'
import type { Era, Message } from '../../src/gateway/types.ts'

function message(method: string, params: Record<string, unknown> = {}, more: Partial<Message> = {}): Message {
  return {
    kind: method.startsWith('notifications/') ? 'notification' : 'request',
    era: 'legacy',
    protocolVersion: '2025-11-25',
    method,
    idText: '1',
    params,
    argumentsText: null,
    body: Buffer.alloc(0),
    session: null,
    client: null,
    ...more,
  }
}

function kindOf(run: () => unknown): string {
  try {
    run()
  } catch (thrown) {
    if (thrown instanceof GatewayError) return thrown.kind
    throw thrown
  }
  return 'none'
}

describe('the target of a message', () => {
  const cases: [string, Record<string, unknown>, string, string][] = [
    ['initialize', {}, 'server', 'files'],
    ['tools/list', {}, 'server', 'files'],
    ['notifications/initialized', {}, 'server', 'files'],
    ['tools/call', { name: 'read' }, 'tool', 'read'],
    ['resources/read', { uri: 'FILE:///a/../b' }, 'resource', 'file:///b'],
    ['resources/read', { uri: 'file:///a/%2e%2e/b' }, 'resource', 'file:///b'],
    ['resources/subscribe', { uri: 'not a uri' }, 'resource', 'not a uri'],
    ['prompts/get', { name: 'greet' }, 'prompt', 'greet'],
    ['completion/complete', { ref: { type: 'ref/prompt', name: 'greet' } }, 'completion', 'greet'],
    ['completion/complete', { ref: { type: 'ref/resource', uri: 'x://{id}' } }, 'completion', 'x://{id}'],
    ['tasks/get', { taskId: 't1' }, 'task', 't1'],
  ]
  for (const [method, params, kind, name] of cases) {
    it(`of ${method} ${JSON.stringify(params)} is the ${kind} ${name}`, () => {
      expect(targetOf(message(method, params), 'files')).to.include({ kind, name })
    })
  }

  it('of the GET and DELETE of a session is the upstream', () => {
    expect(targetOf(message('GET', {}, { kind: 'stream' }), 'files')).to.include({
      kind: 'server',
      name: 'files',
    })
    expect(targetOf(message('DELETE', {}, { kind: 'terminate' }), 'files')).to.include({ kind: 'server' })
  })

  it('is refused as unknown for a method outside the closed list', () => {
    for (const method of [
      'tools/run',
      'sampling/createMessage',
      'Tools/call',
      '',
      'constructor',
      '__proto__',
    ]) {
      expect(kindOf(() => targetOf(message(method), 'files'))).to.equal('unknown_method')
    }
  })

  it('is refused as unknown for a method of the other era', () => {
    const eras: [string, Era][] = [
      ['initialize', 'modern'],
      ['ping', 'modern'],
      ['server/discover', 'legacy'],
      ['subscriptions/listen', 'legacy'],
    ]
    for (const [method, era] of eras) {
      expect(kindOf(() => targetOf(message(method, {}, { era }), 'files'))).to.equal('unknown_method')
    }
  })

  it('is refused as unknown for a request sent as a notification, which would leave no answer', () => {
    expect(
      kindOf(() => targetOf(message('tools/call', { name: 'read' }, { kind: 'notification' }), 'files')),
    ).to.equal('unknown_method')
  })

  it('is refused when the name is missing, empty, not a string or too long', () => {
    for (const params of [{}, { name: '' }, { name: 7 }, { name: null }, { name: 'x'.repeat(8193) }]) {
      expect(kindOf(() => targetOf(message('tools/call', params), 'files'))).to.equal('invalid_params')
    }
  })
})
