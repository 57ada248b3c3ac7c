import { expect } from 'chai'
import { formatMessages, toMessageDocuments } from '../../src/policy/build-error.ts'
import type { PolicyError } from '../../src/policy/compiler.ts'
import { layoutMessage, messageKind } from '../../src/policy/message.ts'

const AT: PolicyError = {
  file: 'authz/tools.rego',
  row: 26,
  col: 6,
  endCol: 27,
  code: 'rego_type_error',
  message: 'undefined ref: input.principal.clams.mfa',
  hint: 'did you mean input.principal.claims? fields of input.principal: claims, id',
  line: '\tnot input.principal.clams.mfa',
}

describe('messages about policies', () => {
  it('mark the unknown field alone and say which one was probably meant', () => {
    expect(layoutMessage(AT)).to.deep.equal([
      `P101 unknown input field${' '.repeat(54)}authz/tools.rego:26:22`,
      '   26 |   not input.principal.clams.mfa',
      '      |                       ^^^^^ no such field. Did you mean `claims`?',
      '      = fields of input.principal: claims, id',
    ])
  })

  it('say where else a field is', () => {
    const hint = 'did you mean input.principal? fields of input: principal, request'
    const lines = layoutMessage({ ...AT, col: 2, endCol: 11, hint, line: '\tinput.usr.x == 1' })
    expect(lines[2]).to.equal('      |         ^^^ no such field. Did you mean `principal`?')
    const other = layoutMessage({
      ...AT,
      col: 2,
      endCol: 12,
      hint: 'did you mean input.principal.roles? fields of input: x',
      line: '\tinput.role',
    })
    expect(other[2]).to.include('Did you mean `principal.roles`?')
  })

  it('have ids that do not change their meaning', () => {
    const kinds: readonly [id: string, code: string, message?: string][] = [
      ['P101', 'rego_type_error', 'undefined ref: input.a.b'],
      ['P102', 'rego_type_error', 'undefined function http.send'],
      ['P103', 'rego_type_error', 'undefined function startwith'],
      ['P104', 'rego_unsafe_var_error'],
      ['P105', 'rego_parse_error'],
      ['P106', 'reserved_name'],
      ['P107', 'contract_error'],
      ['P108', 'rego_type_error', 'plus: invalid argument(s)'],
      ['P109', 'rego_compile_error', 'assigned var a unused'],
      ['P110', 'rego_type_error', 'deprecated built-in function calls in expression: any'],
      ['P111', 'rego_recursion_error'],
      ['P112', 'rego_compile_error', 'conflicting rule'],
      ['P113', 'build_error'],
      ['P120', 'data_error'],
      ['P121', 'source_error'],
      ['P201', 'list_phase'],
      ['P301', 'yaml_error'],
      ['P302', 'unknown_key'],
      ['P303', 'wrong_value'],
      ['P304', 'unknown_name'],
      ['P401', 'test_error'],
      ['P100', 'something new'],
    ]
    for (const [id, code, message = 'm'] of kinds) {
      expect(messageKind({ ...AT, code, message }).id, `${code} ${message}`).to.equal(id)
    }
    expect(messageKind({ ...AT, code: 'list_phase' }).severity).to.equal('warning')
  })

  it('fit a terminal of 100 columns, whatever is in them', () => {
    const long = {
      ...AT,
      code: 'x',
      message: 'word '.repeat(60),
      hint: 'word '.repeat(60),
      line: `${'a'.repeat(400)}\u001b[31mb`,
      col: 380,
      endCol: 390,
    }
    const lines = layoutMessage(long)
    for (const line of lines) expect([...line].length, line).to.be.at.most(100)
    expect(lines.join('')).to.not.include('\u001b')
    expect(lines[2]).to.match(/\| +\^{10}$/)
  })

  it('stand without a source line, and without a place', () => {
    expect(
      layoutMessage({
        ...AT,
        code: 'source_error',
        row: 0,
        message: 'the file is not UTF-8',
        hint: null,
        line: null,
      }),
    ).to.deep.equal([`P121 file${' '.repeat(75)}authz/tools.rego`, '        the file is not UTF-8'])
    expect(
      layoutMessage({ ...AT, code: 'build_error', file: '', row: 0, message: 'm', hint: 'h', line: null }),
    ).to.deep.equal(['P113 cannot be built', '        m', '      = h'])
  })

  it('are told apart by an empty line, and to programs with id and severity', () => {
    expect(formatMessages([AT, AT]).split('\n\n')).to.have.length(2)
    expect(toMessageDocuments([AT])).to.deep.equal([
      { id: 'P101', title: 'unknown input field', severity: 'error', ...AT },
    ])
  })

  it('are painted only where they are asked to be', () => {
    const painted = layoutMessage(AT, (look, text) => `<${look}>${text}</>`)
    expect(painted[0]).to.match(/^<bad>P101 unknown input field<\/> /)
  })
})
