import { expect } from 'chai'
import type { EventBounds, EventOp, KnownProbe } from '../../src/policy/host-events.ts'
import { EventLog } from '../../src/policy/host-events.ts'
import { PolicyFault } from '../../src/policy/host-fault.ts'

const probe = (op: EventOp, id: number, hidden = false): KnownProbe => ({ op, id, hidden })
/** Builtin numbers: 1, 2 = rule 1; 3, 4 = rule 2; 5, 6 = expressions; 7 = hidden. */
const PROBES = [
  undefined,
  probe('enter', 1),
  probe('leave', 1),
  probe('enter', 2),
  probe('leave', 2),
  probe('ok', 5),
  probe('ok', 6),
  probe('ok', 7, true),
]
const [ENTER, LEAVE, ENTER2, LEAVE2, OK5, OK6, HIDDEN] = [1, 2, 3, 4, 5, 6, 7]

function logged(builtins: readonly number[], bounds: Partial<EventBounds> = {}) {
  const log = new EventLog(PROBES, { maxLogged: 100, maxPerProbe: 100, maxEvents: 1000, ...bounds })
  log.start(true)
  for (const [index, builtin] of builtins.entries()) log.add(builtin, 1, index + 1000, 0, 0, 0)
  const text = Array.from({ length: log.length }, (_, index) => {
    const { op, id } = log.probeAt(index) ?? {}
    return `${log.gapAt(index) ? '~' : ''}${op}${id}`
  })
  return { log, text: text.join(' ') }
}

describe('event log', () => {
  it('keeps probes and addresses in their order', () => {
    const { log, text } = logged([ENTER, OK5, LEAVE])
    expect(text).to.equal('enter1 ok5 leave1')
    expect([log.valuesAt(1), log.addressAt(1, 0), log.dropped]).to.deep.equal([1, 1001, 0])
  })

  it('tells probes from other builtins', () => {
    const { log } = logged([])
    expect([0, 1, 7, 8].map((builtin) => log.isProbe(builtin))).to.deep.equal([false, true, true, false])
  })

  it('keeps addresses above 2 GiB unsigned', () => {
    const { log } = logged([])
    log.add(OK5, 2, -8, -4, 0, 0)
    expect([log.addressAt(0, 0), log.addressAt(0, 1)]).to.deep.equal([2 ** 32 - 8, 2 ** 32 - 4])
  })

  it('marks what follows events of a probe that has told enough', () => {
    const { log, text } = logged([ENTER, OK5, OK5, OK5, OK6, LEAVE], { maxPerProbe: 2 })
    expect(text).to.equal('enter1 ok5 ok5 ~ok6 leave1')
    expect(log.dropped).to.equal(1)
  })

  it('says when it ends behind left out events', () => {
    expect(logged([ENTER, OK5, OK5], { maxPerProbe: 1 }).log.endsInGap).to.equal(true)
  })

  it('leaves out a rule that was entered too often with all that happens in it', () => {
    const again = [ENTER2, ENTER, OK5, LEAVE, LEAVE2]
    const { log, text } = logged([...again, ...again, OK6], { maxPerProbe: 1 })
    expect(text).to.equal('enter2 enter1 ok5 leave1 leave2 ok6')
    expect(log.dropped).to.equal(5)
  })

  it('keeps a place for the end of every rule', () => {
    const { text } = logged([ENTER, OK5, OK5, OK5, OK5, OK5, ENTER2, LEAVE2, LEAVE], { maxLogged: 5 })
    expect(text).to.equal('enter1 ok5 ok5 ok5 ~leave1')
  })

  it('never writes behind its end, whatever comes', () => {
    for (let maxLogged = 1; maxLogged < 12; maxLogged += 1) {
      const deep = [...Array(20).fill(ENTER), ...Array(20).fill(OK5), ...Array(20).fill(LEAVE)] as number[]
      const { log, text } = logged(deep, { maxLogged })
      expect(log.length).to.be.at.most(maxLogged)
      expect(text.match(/enter/g)?.length).to.equal(text.match(/leave/g)?.length)
    }
  })

  it('counts hidden probes against the bound and nowhere else', () => {
    const { log, text } = logged([HIDDEN, OK5, HIDDEN])
    expect([text, log.dropped]).to.deep.equal(['ok5', 0])
    expect(() => logged(Array(11).fill(HIDDEN) as number[], { maxEvents: 10 })).to.throw(PolicyFault)
  })

  it('ends an evaluation that makes too many', () => {
    expect(() => logged(Array(11).fill(OK5) as number[], { maxEvents: 10 }))
      .to.throw(PolicyFault, 'more than 10 trace events')
      .with.property('kind', 'events')
  })

  it('only counts when it is not recording', () => {
    const log = new EventLog(PROBES, { maxLogged: 10, maxPerProbe: 10, maxEvents: 3 })
    log.start(false)
    for (let count = 0; count < 3; count += 1) log.add(ENTER, 0, 0, 0, 0, 0)
    expect(log.length).to.equal(0)
    expect(() => log.add(ENTER, 0, 0, 0, 0, 0)).to.throw(PolicyFault)
  })
})
