import { expect } from 'chai'
import type { MaskPlace } from '../../src/audit/mask.ts'
import { findMasked, placeOf } from '../../src/audit/mask.ts'
import { DECISION_BOUNDS, PAYLOAD_BOUNDS } from '../../src/audit/redact.ts'
import type { Masker } from '../../src/audit/skip.ts'
import { walkJson } from '../../src/audit/walk.ts'
import type { Mask } from '../../src/gateway/types.ts'

/** Counts the characters that a walk hands to its masker: all that it asks about a text. */
class Counter implements Masker {
  steps = 0
  mask(text: string): string {
    this.steps += text.length + 1
    return text
  }
  known(text: string): string | null {
    this.steps += text.length + 1
    return null
  }
  isSecretKey(name: string): boolean {
    // Only the end of a long name is looked at.
    this.steps += Math.min(name.length, 256) + 1
    return name === 'password'
  }
  learn(secret: string): void {
    this.steps += secret.length + 1
  }
  learnFrom(text: string): void {
    this.steps += text.length + 1
  }
  mark(kind: string): string {
    return kind
  }
}

const HOSTILE: Readonly<Record<string, (size: number) => string>> = {
  'one long string': (size) => JSON.stringify({ a: 'x'.repeat(size) }),
  'one long name': (size) => JSON.stringify({ ['k'.repeat(size)]: 1 }),
  'many short strings': (size) => JSON.stringify(Array.from({ length: size / 4 }, () => 'a')),
  'many secrets': (size) => JSON.stringify(Array.from({ length: size / 16 }, () => ({ password: 'p' }))),
  'deep arrays': (size) => `${'['.repeat(size / 2)}1${']'.repeat(size / 2)}`,
  'deep secrets': (size) => `${'{"password":'.repeat(size / 16)}"x"${'}'.repeat(size / 16)}`,
  'many escapes': (size) => `{"a":"${'\\\\'.repeat(size / 2)}"}`,
  'many quotes': (size) => `{"a":"${'\\"'.repeat(size / 2)}"}`,
  'many numbers': (size) => JSON.stringify(Array.from({ length: size / 4 }, (_, index) => index)),
}

describe('audit/walk: the work on hostile texts', () => {
  for (const [what, make] of Object.entries(HOSTILE)) {
    it(`grows no faster than the text: ${what}`, () => {
      for (const bounds of [PAYLOAD_BOUNDS, DECISION_BOUNDS]) {
        const steps = [65_536, 131_072, 262_144].map((size) => {
          const counter = new Counter()
          const plan = { bounds, learn: true, partial: false, own: null, withhold: null, masks: null }
          walkJson(make(size), plan, counter)
          return counter.steps / size
        })
        for (const share of steps) expect(share, String(steps)).to.be.at.most(4)
      }
    })
  }

  it('is bounded by what is kept when nothing is learnt', () => {
    for (const [what, make] of Object.entries(HOSTILE)) {
      const counter = new Counter()
      const plan = {
        bounds: PAYLOAD_BOUNDS,
        learn: false,
        partial: false,
        own: null,
        withhold: null,
        masks: null,
      }
      walkJson(make(1_048_576), plan, counter)
      expect(counter.steps, what).to.be.below(65_536)
    }
  })
})

describe('audit/mask: the work on hostile texts', () => {
  /** Counts the questions asked of a place and of those below it. */
  function counting(place: MaskPlace | null, count: { steps: number }): MaskPlace | null {
    if (place === null) return null
    return {
      mask: place.mask,
      at(name) {
        count.steps += 1
        return counting(place.at(name), count)
      },
    }
  }

  it('grows no faster than the text with as many masks as there may be', () => {
    const masks = Array.from(
      { length: 64 },
      (_, index): Mask => ({ op: 'remove', path: ['*', '*', `k${index}`] }),
    )
    const rows = (count: number) =>
      JSON.stringify(Array.from({ length: count }, () => [{ k1: 1, k2: 2, x: 3 }, { y: 1 }]))
    const steps = [1000, 2000, 4000].map((count) => {
      const counted = { steps: 0 }
      findMasked(rows(count), counting(placeOf(masks), counted), () => undefined)
      return counted.steps / count
    })
    expect(new Set(steps)).to.deep.equal(new Set([7]))
  })

  it('looks at nothing but what lies on the way', () => {
    const counted = { steps: 0 }
    const text = JSON.stringify({ a: { b: 1 }, big: Array.from({ length: 10_000 }, () => ({ b: 1 })) })
    const found: string[] = []
    findMasked(text, counting(placeOf([{ op: 'remove', path: ['a', 'b'] }]), counted), (value) =>
      found.push(value),
    )
    expect(found).to.deep.equal(['1'])
    expect(counted.steps).to.equal(3)
  })
})
