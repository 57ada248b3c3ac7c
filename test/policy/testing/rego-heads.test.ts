import { expect } from 'chai'
import { constantPath, wordsOf } from '../../../src/policy/testing/reference.ts'
import { findDefaults, findTestRules, packageOf } from '../../../src/policy/testing/rego-heads.ts'

describe('rules that are tests', () => {
  const names = (text: string) =>
    findTestRules('a_test.rego', `package a.b\n${text}`).map(({ name, row }) => `${row} ${name}`)

  it('are found by their heads, each once, with line and path', () => {
    expect(findTestRules('x_test.rego', 'package a["b-c"].d\n\ntest_x if true\n')).to.deep.equal([
      {
        file: 'x_test.rego',
        row: 3,
        name: 'test_x',
        entrypoint: 'a/b-c/d/test_x',
        path: 'data.a["b-c"].d.test_x',
      },
    ])
  })

  it('have every shape of head', () => {
    expect(
      names(
        'test_a if 1 == 1\ntest_b := true\ntest_c = true\ntest_d[x] if { some x in [1] }\ntest_e.f if true\ntest_g contains 1\ntodo_test_h if true\n  test_i if true\ntest_d["y"] if true\ntest_j {\n}',
      ),
    ).to.deep.equal([
      '2 test_a',
      '3 test_b',
      '4 test_c',
      '5 test_d',
      '6 test_e',
      '7 test_g',
      '8 todo_test_h',
      '9 test_i',
      '11 test_j',
    ])
  })

  it('are neither functions nor other rules', () => {
    expect(
      names('test_f(x) if x == 1\ntester if true\nmy_test_x if true\ndefault test_y := false'),
    ).to.deep.equal([])
  })

  it('are not read out of bodies, strings and comments', () => {
    expect(
      names(
        'x if {\n  test_a\n}\ny := `\ntest_b if true\n`\n# test_c if true\nz := "{[("\ntest_d if true # }\nw := "\\"\ntest_e if true',
      ),
    ).to.deep.equal(['10 test_d', '12 test_e'])
  })

  it('need a package', () => {
    expect(packageOf('# package no\npackage x.y\n')).to.deep.equal(['x', 'y'])
    expect(packageOf('x := 1')).to.equal(null)
  })

  it('tell defaults', () => {
    expect(findDefaults('package a\ndefault allow := false\n# default no := 1\n')).to.deep.equal([
      { name: 'allow', row: 2 },
    ])
  })
})

describe('references', () => {
  it('become paths up to the first variable', () => {
    expect(constantPath('input.a["b c"].d[0].e')).to.deep.equal(['a', 'b c', 'd', 0, 'e'])
    expect(constantPath('input.a[x].b')).to.deep.equal(['a'])
    expect(constantPath('data')).to.deep.equal([])
  })

  it('are words outside of strings and not behind a dot', () => {
    expect(wordsOf('not a.b in lib.f(x["c"], "d", `e`) # f')).to.deep.equal([
      'not',
      'a.b',
      'in',
      'lib.f',
      'x',
    ])
  })
})
