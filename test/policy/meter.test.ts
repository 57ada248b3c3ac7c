import { createRequire } from 'node:module'
import { expect } from 'chai'
import fc from 'fast-check'
import { wasmApi } from '../../src/policy/host-wasm.ts'
import { FUEL_EXPORT, meter, STACK_POINTER_EXPORT } from '../../src/policy/meter.ts'
import { MeterError } from '../../src/policy/meter-decode.ts'
import { buildUnmetered, closeFixture } from './engine-fixture.ts'

const POLICY = `allow contains "ok" if input.phase == "call"

deny contains name if {
	some name, n in input.arguments.names
	n > 2
	not startswith(name, "x")
}

deny contains "many" if count([v | walk(input.arguments, [_, v]); is_number(v)]) > 3
`

const { loadPolicy } = createRequire(import.meta.url)('@open-policy-agent/opa-wasm') as {
  readonly loadPolicy: (wasm: Uint8Array, memory: object, builtins: object) => Promise<SdkPolicy>
}
interface SdkPolicy {
  readonly wasmInstance: { readonly exports: Record<string, { value: number }> }
  evaluate(input: object, entrypoint: string): unknown
}

/** A module in bytes: stack pointer global, exported function `run` without parameters and result. */
function tiny(
  code: readonly number[],
  parts: { data?: readonly number[]; globals?: readonly number[] } = {},
): Uint8Array {
  const section = (id: number, body: readonly number[]) => [id, body.length, ...body]
  const globals = parts.globals ?? [1, 0x7f, 1, 0x41, 16, 0x0b]
  const body = [0, ...code, 0x0b]
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 0, 0]),
    ...section(3, [1, 0]),
    ...section(5, [1, 0, 1]),
    ...section(6, globals),
    ...section(7, [1, 3, 0x72, 0x75, 0x6e, 0, 0]),
    ...section(10, [1, body.length, ...body]),
    ...(parts.data === undefined ? [] : section(11, parts.data)),
  ])
}

function instance(wasm: Uint8Array) {
  const exports = new wasmApi.Instance(new wasmApi.Module(wasm), {}).exports
  return {
    run: exports['run'] as () => void,
    fuel: exports[FUEL_EXPORT] as { value: number },
    stackPointer: exports[STACK_POINTER_EXPORT] as { value: number },
  }
}

describe('meter', () => {
  describe('on a module of OPA', function () {
    this.timeout(60_000)
    let plain: Uint8Array
    let metered: Uint8Array

    before(async () => {
      plain = await buildUnmetered(POLICY, false)
      metered = meter(plain)
    })
    after(closeFixture)

    it('gives a valid module that exports fuel and the stack pointer', () => {
      expect(wasmApi.validate(metered)).to.equal(true)
      expect(metered.length)
        .to.be.greaterThan(plain.length)
        .and.lessThan(plain.length * 1.2)
    })

    it('is deterministic', () => {
      expect(Buffer.from(meter(plain)).equals(Buffer.from(metered))).to.equal(true)
    })

    it('leaves every result as it is', async () => {
      const builtins = {}
      const [before, after] = [await loadPolicy(plain, {}, builtins), await loadPolicy(metered, {}, builtins)]
      const fuel = after.wasmInstance.exports[FUEL_EXPORT]
      fc.assert(
        fc.property(fc.dictionary(fc.string(), fc.integer()), fc.jsonValue(), (names, more) => {
          if (fuel !== undefined) fuel.value = 0x7fffffff
          const input = { phase: 'call', arguments: { names, more } }
          expect(after.evaluate(input, 'gateway/decision')).to.deep.equal(
            before.evaluate(input, 'gateway/decision'),
          )
        }),
        { numRuns: 100 },
      )
    })

    it('refuses a module that is metered already', () => {
      expect(() => meter(metered)).to.throw(MeterError, 'is exported already')
    })

    it('refuses damaged modules, or gives a valid one, and never hangs', () => {
      const damage = fc.array(fc.tuple(fc.nat(plain.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
      fc.assert(
        fc.property(damage, fc.option(fc.nat(plain.length)), (changes, end) => {
          const bytes = Uint8Array.from(plain.subarray(0, end ?? plain.length))
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
          const result = attempt(() => meter(bytes))
          if (result instanceof Error) expect(result).to.be.instanceOf(MeterError)
          else expect(wasmApi.validate(result)).to.equal(true)
        }),
        { numRuns: 60 },
      )
    })
  })

  it('stops an endless loop', () => {
    const { run, fuel } = instance(meter(tiny([0x03, 0x40, 0x0c, 0, 0x0b])))
    fuel.value = 100_000
    expect(run).to.throw(wasmApi.RuntimeError)
    expect(fuel.value).to.be.lessThan(0)
  })

  it('stops an endless recursion before the stack does', () => {
    const { run, fuel } = instance(meter(tiny([0x10, 0])))
    fuel.value = 1000
    expect(run).to.throw(wasmApi.RuntimeError)
    expect(fuel.value).to.be.lessThan(0)
  })

  it('charges the instructions of a function at its entry', () => {
    const { run, fuel } = instance(meter(tiny([0x01, 0x01, 0x01])))
    fuel.value = 100
    run()
    expect(fuel.value).to.equal(96) // three nops and the end
  })

  it('stays stopped until fuel is set again', () => {
    const { run, fuel } = instance(meter(tiny([0x01])))
    fuel.value = 1
    expect(run).to.throw(wasmApi.RuntimeError)
    expect(run).to.throw(wasmApi.RuntimeError)
    fuel.value = 2
    run()
    expect(fuel.value).to.equal(0)
  })

  it('bounds a module whose fuel was never set', () => {
    expect(instance(meter(tiny([]))).fuel.value).to.equal(0x7fffffff)
  })

  it('exports the stack pointer, to be restored', () => {
    const { run, stackPointer } = instance(meter(tiny([0x41, 5, 0x24, 0])))
    expect(stackPointer.value).to.equal(16)
    run()
    expect(stackPointer.value).to.equal(5)
  })

  const refused: readonly (readonly [string, Uint8Array, string])[] = [
    ['an empty file', Uint8Array.of(), 'not a WebAssembly module'],
    ['another format', Uint8Array.from(Buffer.from('PK not a module')), 'not a WebAssembly module'],
    ['a component', Uint8Array.of(0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0), 'not a WebAssembly module'],
    ['bulk memory', tiny([0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 11, 0]), 'unknown opcode behind 0xfc'],
    ['SIMD', tiny([0x41, 0, 0xfd, 15, 0x1a]), 'unknown opcode 0xfd'],
    ['reference types', tiny([0xd0, 0x70, 0x1a]), 'unknown opcode 0xd0'],
    ['tail calls', tiny([0x12, 0]), 'unknown opcode 0x12'],
    ['a global that only metering would give it', tiny([0x41, 0, 0x24, 1]), 'not a valid WebAssembly module'],
    [
      'a stack pointer that is none',
      tiny([], { globals: [1, 0x7e, 1, 0x42, 0, 0x0b] }),
      'no C stack pointer',
    ],
    [
      'data below the stack',
      tiny([], { data: [1, 0, 0x41, 8, 0x0b, 1, 7] }),
      'the C stack lies above the data',
    ],
    ['passive data', tiny([], { data: [1, 1, 1, 7] }), 'unknown kind of data segment'],
  ]
  for (const [what, wasm, message] of refused) {
    it(`refuses ${what}`, () => {
      expect(() => meter(wasm)).to.throw(MeterError, message)
    })
  }
})

function attempt<T>(run: () => T): T | Error {
  try {
    return run()
  } catch (error) {
    return error as Error
  }
}
