import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { describe, it } from 'mocha'
import { COMPILED_AWAY_BUILTINS, OMITTED_BUILTINS } from '../../../src/policy/builtins/omitted.ts'
import { callBuiltin, HOST_BUILTINS } from '../../../src/policy/builtins/table.ts'
import { createCompiler } from '../../../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../../../src/policy/compiler-artifact.ts'
import { BUILTINS_PAGE, builtinsPage } from '../fidelity/builtins-page.ts'
import { call, createContext, NOW_NS } from './gives.ts'

describe('the table of builtins', () => {
  it('accounts for every builtin of OPA: on the host, native to Wasm, compiled away, or left out with a reason; the page says so', async function () {
    this.timeout(60_000)
    const artifact = await loadCompilerArtifact(join(tmpdir(), 'mcp-policy-gateway-test'))
    const compiler = createCompiler({ artifact })
    try {
      const { builtins, native } = await compiler.capabilities()
      const accounted = [...HOST_BUILTINS, ...OMITTED_BUILTINS.keys(), ...COMPILED_AWAY_BUILTINS, ...native]
      expect([...new Set(accounted)].sort()).to.deep.equal([...builtins].sort())
      expect(await builtinsPage(compiler), 'run `npm run fidelity`').to.equal(
        readFileSync(BUILTINS_PAGE, 'utf8'),
      )
    } finally {
      await compiler.close()
    }
  })

  it('gives a reason and a way out for everything left out', () => {
    for (const [name, { reason, alternative }] of OMITTED_BUILTINS) {
      expect(reason, name).to.match(/^\w.{20,}[^.]$/)
      expect(alternative, name).to.match(/^\w.{15,}[^.]$/)
    }
  })

  it('answers an operand of the wrong type with undefined, for every builtin', () => {
    const lenient = new Set([
      'time.now_ns',
      'net.cidr_contains_matches',
      'cast_boolean',
      'to_number',
      'json.verify_schema',
      'graphql.parse_and_verify',
    ])
    for (const name of HOST_BUILTINS) {
      const result = call(name, 'true', 'true', 'true', 'true')
      const expected = name.endsWith('is_valid') ? 'false' : undefined
      if (name === 'yaml.marshal') expect(result).to.equal('"true\\n"')
      else if (name === 'json.marshal') expect(result).to.equal('"true"')
      else if (!lenient.has(name)) expect(result, name).to.equal(expected)
    }
  })

  it('answers missing operands with undefined instead of failing', () => {
    for (const name of HOST_BUILTINS) {
      if (name === 'time.now_ns' || name.endsWith('is_valid')) continue
      expect(call(name), name).to.be.oneOf([undefined, 'set()', '[false, {}, {}]'])
    }
  })

  it('tells the time of the decision, however long it takes', () => {
    expect(call('time.now_ns')).to.equal(String(NOW_NS))
  })

  it('fails on a name it does not have and on texts no module writes', () => {
    expect(() => callBuiltin('http.send', ['{}'], createContext())).to.throw('not available: http.send')
    expect(() => callBuiltin('hex.encode', ['nope'], createContext())).to.throw(SyntaxError)
  })
})
