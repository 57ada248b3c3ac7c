import { expect } from 'chai'
import { createKeyReader } from '../../src/cli/policy-test-keys.ts'

describe('the keys of gateway policy test --watch', () => {
  it('ask for one thing each, also when several come at once', () => {
    const { read } = createKeyReader()
    expect(read('f\recq').map(({ kind }) => kind)).to.deep.equal([
      'failed',
      'all',
      'uncut',
      'coverage',
      'quit',
    ])
    expect(read('xyz ')).to.deep.equal([])
  })

  it('are not meant by arrows and function keys', () => {
    const { read } = createKeyReader()
    expect([...read('\u001b[C'), ...read('\u001bOQ')]).to.deep.equal([])
  })

  it('write a pattern, which can be mended, until Enter', () => {
    const { read, prompt } = createKeyReader()
    expect(prompt()).to.equal(null)
    expect(read('pq')).to.deep.equal([])
    expect(read('ä\u0007\u007f')).to.deep.equal([])
    expect(prompt()).to.match(/: q$/)
    expect(read('\r')).to.deep.equal([{ kind: 'pattern', pattern: /q/u }])
    expect(prompt()).to.equal(null)
    expect(read('f')).to.deep.equal([{ kind: 'failed' }])
  })

  it('take an empty pattern for all tests, and Escape for a change of mind', () => {
    const { read, prompt } = createKeyReader()
    expect(read('p\r')).to.deep.equal([{ kind: 'pattern', pattern: null }])
    expect(read('pabc')).to.deep.equal([])
    expect([read('\u001b'), prompt()]).to.deep.equal([[], null])
  })

  it('say when a pattern is none, and keep it to be mended', () => {
    const { read, prompt } = createKeyReader()
    expect(read('p(\r')).to.deep.equal([])
    expect(prompt()).to.match(/: \( {3}\(no regular expression\)$/)
    expect(read(')\r')).to.deep.equal([{ kind: 'pattern', pattern: /()/u }])
  })

  it('bound what is typed', () => {
    const { read, prompt } = createKeyReader()
    read(`p${'x'.repeat(5000)}`)
    expect(prompt()?.length).to.be.below(300)
  })

  it('end with Ctrl-C and Ctrl-D, in the middle of a pattern, too', () => {
    for (const key of ['\u0003', '\u0004']) {
      const { read } = createKeyReader()
      expect([...read('pab'), ...read(key)]).to.deep.equal([{ kind: 'quit' }])
    }
  })
})
