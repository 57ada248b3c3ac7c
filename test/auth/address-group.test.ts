import { expect } from 'chai'
import { addressGroup } from '../../src/auth/address-group.ts'

describe('addressGroup', () => {
  it('counts an IPv4 address for itself, mapped into IPv6 or not', () => {
    expect(addressGroup('192.0.2.7')).to.equal('192.0.2.7')
    expect(addressGroup('::ffff:192.0.2.7')).to.equal('192.0.2.7')
    expect(addressGroup('::FFFF:192.0.2.7')).to.equal('192.0.2.7')
  })

  it('counts an IPv6 address with its /64, however it is written', () => {
    const group = '2001:db8:0:7::/64'
    for (const text of [
      '2001:db8:0:7:1:2:3:4',
      '2001:DB8:0000:0007::1',
      '2001:db8:0:7::',
      '2001:db8:0:7:ffff:ffff:ffff:ffff',
      '2001:db8:0:7:1:2:192.0.2.1',
      '2001:db8:0:7::1%eth0',
    ]) {
      expect(addressGroup(text), text).to.equal(group)
    }
    expect(addressGroup('::1')).to.equal('0:0:0:0::/64')
    expect(addressGroup('fe80::1')).to.equal('fe80:0:0:0::/64')
    expect(addressGroup('2001:db8::7:1:2:3:4')).to.equal(group)
    expect(addressGroup('2001:db8:0:8::1')).to.not.equal(group)
  })

  it('bounds what is no address at all', () => {
    expect(addressGroup('x'.repeat(5000))).to.have.length(64)
    expect(addressGroup('')).to.equal('')
  })
})
