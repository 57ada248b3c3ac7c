import { expect } from 'chai'
import fc from 'fast-check'
import type { Listed } from '../src/roster.ts'
import { Roster } from '../src/roster.ts'

interface Named extends Listed {
  readonly name: number
}

describe('a roster', () => {
  it('holds what a Set would hold, whoever comes and goes', () => {
    const step = fc.record({ name: fc.nat(9), comes: fc.boolean() })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const all: Named[] = Array.from({ length: 10 }, (_, name) => ({ name, place: -1 }))
        const roster = new Roster<Named>()
        const set = new Set<Named>()
        for (const { name, comes } of steps) {
          const entry = all[name] as Named
          if (comes) {
            roster.add(entry)
            set.add(entry)
          } else expect(roster.delete(entry)).to.equal(set.delete(entry))
          expect(roster.size).to.equal(set.size)
        }
        for (const entry of all) expect(roster.has(entry)).to.equal(set.has(entry))
        const names = (entries: Iterable<Named>) => Array.from(entries, ({ name }) => name).sort()
        expect(names(roster.all())).to.deep.equal(names(set))
      }),
    )
  })

  it('can be walked through while those on it leave', () => {
    const roster = new Roster<Named>()
    for (let name = 0; name < 5; name += 1) roster.add({ name, place: -1 })
    const met: number[] = []
    for (const entry of roster.all()) {
      met.push(entry.name)
      roster.delete(entry)
    }
    expect(met).to.deep.equal([0, 1, 2, 3, 4])
    expect(roster.size).to.equal(0)
  })
})
