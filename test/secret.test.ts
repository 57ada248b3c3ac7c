import { randomBytes } from 'node:crypto'
import { expect } from 'chai'
import { UsageError } from '../src/errors.ts'
import { deriveKey, parseSecret } from '../src/secret.ts'

describe('the secret', () => {
  it('is taken in hex and in both kinds of base64, without surrounding white space', () => {
    for (const encoding of ['hex', 'base64', 'base64url'] as const) {
      for (let round = 0; round < 200; round += 1) {
        const text = randomBytes(32).toString(encoding)
        expect(parseSecret(`${text}\n`)).to.equal(text)
      }
    }
  })

  it('is refused when it cannot have come from 32 random bytes, and never shown', () => {
    const weak: [string, RegExp][] = [
      ['', /has 0 characters/],
      [randomBytes(16).toString('hex'), /has 32 characters, fewer than 43/],
      ['a'.repeat(100), /too few different characters/],
      ['0123012301230123012301230123012301230123012301230123', /too few different characters/],
      ['correct-horse-battery-staple-correct-horse-battery-staple-', /repeats a shorter text/],
    ]
    for (const [text, problem] of weak) {
      let error: unknown
      try {
        parseSecret(text)
      } catch (thrown) {
        error = thrown
      }
      expect(error, text).to.be.instanceOf(UsageError)
      expect((error as UsageError).message).to.match(problem)
      expect((error as UsageError).message).to.match(/openssl rand -base64 32/)
      if (text !== '') expect((error as UsageError).message).to.not.include(text)
    }
  })

  it('gives the same key for the same use, another for another use or secret', () => {
    const one = randomBytes(32).toString('hex')
    const two = randomBytes(32).toString('hex')
    expect(deriveKey(one, 'session')).to.have.length(32)
    expect(deriveKey(one, 'session').equals(deriveKey(one, 'session'))).to.equal(true)
    const all = [
      deriveKey(one, 'session'),
      deriveKey(one, 'cursor'),
      deriveKey(one, 'input_mac'),
      deriveKey(two, 'session'),
    ]
    expect(new Set(all.map((key) => key.toString('hex'))).size).to.equal(4)
  })
})
