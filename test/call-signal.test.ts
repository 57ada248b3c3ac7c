import { expect } from 'chai'
import { CallAbort } from '../src/call-signal.ts'

describe('the signal that ends a call', () => {
  it('calls each listener once, with the first reason there', () => {
    const abort = new CallAbort()
    const heard: unknown[] = []
    const listener = (): void => void heard.push(abort.reason)
    abort.addEventListener('abort', listener)
    abort.addEventListener('abort', listener)
    abort.addEventListener('abort', () => heard.push('other'))
    expect(abort.aborted).to.equal(false)
    abort.abort('gone')
    abort.abort('again')
    expect(heard).to.deep.equal(['gone', 'other'])
    expect(abort.aborted).to.equal(true)
    expect(abort.reason).to.equal('gone')
  })

  it('does not call who listens too late, as an AbortSignal does not', () => {
    const abort = new CallAbort()
    abort.abort()
    abort.addEventListener('abort', () => {
      throw new Error('called')
    })
    abort.abort()
  })

  it('does not call who was taken off, not even by a listener before', () => {
    const abort = new CallAbort()
    const heard: string[] = []
    const second = (): void => void heard.push('second')
    abort.addEventListener('abort', () => {
      heard.push('first')
      abort.removeEventListener('abort', second)
    })
    abort.addEventListener('abort', second)
    abort.addEventListener('abort', () => heard.push('third'))
    abort.abort()
    expect(heard).to.deep.equal(['first', 'third'])
  })
})
