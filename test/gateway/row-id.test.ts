import { expect } from 'chai'
import { createRowIds } from '../../src/gateway/row-id.ts'

describe('row ids', () => {
  const millisecond = (id: string): number => Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16)

  it('carry the millisecond they were made for, as UUID version 7', () => {
    const id = createRowIds()(1_795_000_000_123)
    expect(millisecond(id)).to.equal(1_795_000_000_123)
    expect(id).to.match(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  it('rise within one millisecond', () => {
    const newId = createRowIds()
    const ids = Array.from({ length: 1000 }, () => newId(1_795_000_000_123))
    expect(ids).to.deep.equal([...ids].sort())
    expect(new Set(ids).size).to.equal(1000)
  })

  it('stay unique when the clock steps back', () => {
    const newId = createRowIds()
    const ids = [5, 4, 5, 4, 5].map((ms) => newId(ms))
    expect(new Set(ids).size).to.equal(5)
  })
})
