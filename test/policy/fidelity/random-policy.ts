/** Random policies of Rego's grammar and random inputs for them: the same for the same seed. */
import type { Question } from './three-ways.ts'

/** Draws from a seeded source: numbers in [0, 1). */
export type Draw = () => number

/** A small generator of good enough randomness (mulberry32). */
export function createDraw(seed: number): Draw {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const FIELDS = ['a', 'b', 'xs', 'o', 's', 'n']
const STRINGS = ['', 'a', 'ab', 'b', 'ä', '😀', 'a,b', '10', '10.0.0.1', '<x>', 'a\nb', '9007199254740993']
const NUMBERS = ['0', '1', '2', '-1', '1.5', '0.1', '1e2', '9007199254740993', '-9223372036854775809', '3']

/** A policy and what it is asked. */
export function randomQuestion(seed: number): Question {
  const writer = new PolicyWriter(createDraw(seed))
  return {
    sources: { 'policy.rego': writer.policy() },
    entrypoint: 't',
    dataText: `{"d":${writer.object(2)},"ports":{"1":"a","10":["b"],"9007199254740993":null,"a":{"2":"c"}}}`,
    inputText: writer.object(3),
  }
}

/** Rules `allow` and `deny` for package `gateway.authz`, and the arguments of a call. */
export function randomDecision(seed: number): { readonly rules: string; readonly argumentsText: string } {
  const writer = new PolicyWriter(createDraw(seed), 'input.arguments')
  return { rules: writer.decision(), argumentsText: writer.object(3) }
}

/** Rules `allow` and `deny` that read targets and principals, and some of either: what their claims and annotations hold. */
export function randomListing(seed: number): {
  readonly rules: string
  readonly annotations: readonly string[]
  readonly claims: readonly string[]
} {
  const writer = new PolicyWriter(createDraw(seed), 'input.target.annotations', 'input.principal.claims')
  const objects = (count: number) => Array.from({ length: count }, () => writer.object(3))
  return { rules: writer.listing(), annotations: objects(6), claims: objects(3) }
}

class PolicyWriter {
  readonly #draw: Draw
  readonly #roots: readonly string[]
  /** Rules written so far; a rule refers to earlier ones only, so nothing is recursive. */
  readonly #rules: string[] = []
  #names = 0
  /** How often what is drawn stays when it is a `with` or an object that is made of several rules. */
  #oddity = 1

  /** `roots`: what the policy reads its fields from; none = the input. */
  constructor(draw: Draw, ...roots: readonly string[]) {
    this.#draw = draw
    this.#roots = roots.length === 0 ? ['input'] : roots
  }

  get #isOfTargets(): boolean {
    return this.#roots.length > 1
  }

  get #root(): string {
    const [only, second] = this.#roots
    return only !== undefined && second === undefined ? only : this.#pick(this.#roots)
  }

  policy(): string {
    const definitions = Array.from({ length: this.#between(2, 6) }, () => this.#definition())
    return `package t\n\nimport future.keywords.not\n\n${definitions.join('\n\n')}\n`
  }

  /** Rules that allow and deny. */
  decision(): string {
    const reasons = ['allow', 'allow', 'deny'].map(
      (name, at) => `${name} contains "${name}-${at}" if ${this.#body([])}`,
    )
    return `import future.keywords.not\n\n${[this.#definition(), ...reasons].join('\n\n')}\n`
  }

  /** The same with more rules behind them, seldom of the kinds that cannot be asked about a whole list. */
  listing(): string {
    this.#oddity = 0.1
    const rules = Array.from({ length: this.#between(1, 4) }, () => this.#definition())
    const reasons = ['allow', 'allow', 'allow', 'deny', 'deny'].map(
      (name, at) => `${name} contains "${name}-${at}" if ${this.#body([])}`,
    )
    return `import future.keywords.not\n\n${[...rules, ...reasons].join('\n\n')}\n`
  }

  /** JSON text of an object with the fields policies ask for. */
  object(depth: number): string {
    const members = FIELDS.filter(() => this.#draw() < 0.8).map(
      (name) => `"${name}":${this.#json(depth - 1)}`,
    )
    return `{${members.join()}}`
  }

  #json(depth: number): string {
    const kind = this.#between(0, depth > 0 ? 6 : 3)
    if (kind === 0) return this.#pick(['null', 'true', 'false'])
    if (kind === 1) return this.#pick(NUMBERS)
    if (kind <= 3) return JSON.stringify(this.#pick(STRINGS))
    if (kind === 4) return this.object(depth)
    return `[${this.#several(0, 4, () => this.#json(depth - 1)).join()}]`
  }

  #definition(): string {
    const name = `r${this.#rules.length}`
    const text = this.#pick([
      () => `${name} := ${this.#constant()} if ${this.#body([])}`,
      () => `${name} contains v if ${this.#body(['v'])}`,
      () => (this.#isOdd() ? `${name}[k] := v if ${this.#body(['k', 'v'])}` : `${name} if ${this.#body([])}`),
      () => `${name} if ${this.#body([])} else := ${this.#constant()} if ${this.#body([])}`,
      () => `default ${name} := ${this.#constant()}\n\n${name} := ${this.#constant()} if ${this.#body([])}`,
      () => `${name} := [v | ${this.#statements(['v']).join('; ')}]`,
      () => `${name} := {v | ${this.#statements(['v']).join('; ')}}`,
      () => this.#function(name),
    ])()
    this.#rules.push(name)
    return text
  }

  /** A function and the rule that calls it, under one name. */
  #function(name: string): string {
    const second =
      this.#draw() < 0.5
        ? `\n\nf_${name}(x) := ${this.#constant()} if {\n\tx == ${this.#operand([])}\n\tfalse\n}`
        : ''
    return `f_${name}(x) := y if {\n\ty := ${this.#value(['x'])}\n}${second}\n\n${name} := f_${name}(${this.#operand([])})`
  }

  #body(heads: readonly string[]): string {
    return `{\n\t${this.#statements(heads).join('\n\t')}\n}`
  }

  /** Statements that bind the variables a head needs. */
  #statements(heads: readonly string[]): readonly string[] {
    const bound: string[] = []
    const out: string[] = []
    for (const head of heads) {
      out.push(
        this.#draw() < 0.6
          ? `some ${head} in ${this.#collection(bound)}`
          : `${head} := ${this.#value(bound)}`,
      )
      bound.push(head)
    }
    for (let left = this.#between(heads.length > 0 ? 0 : 1, 3); left > 0; left -= 1)
      out.push(this.#statement(bound))
    return out
  }

  #statement(bound: string[]): string {
    return this.#pick([
      () => this.#condition(bound),
      () => `not ${this.#condition(bound)}`,
      () => this.#binding(bound),
      () =>
        `every e in ${this.#collection(bound)} { e != ${this.#constant()}; ${this.#condition([...bound, 'e'])} }`,
      () =>
        this.#isOdd()
          ? `${this.#condition(bound)} with ${this.#root}.${this.#pick(FIELDS)} as ${this.#constant()}`
          : this.#condition(bound),
      () => `not { ${this.#condition(bound)}; ${this.#condition(bound)} }`,
    ])()
  }

  #binding(bound: string[]): string {
    const name = this.#fresh()
    const text = this.#pick([
      () => `some ${name} in ${this.#collection(bound)}`,
      () => `${name} := ${this.#value(bound)}`,
      () => `${name} = ${this.#value(bound)}`,
      () => `some ${name}_k, ${name} in ${this.#collection(bound)}`,
    ])()
    bound.push(name)
    return text.replace(`some ${name}_k`, 'some _')
  }

  #condition(bound: readonly string[]): string {
    const operand = () => this.#operand(bound)
    if (this.#isOfTargets && this.#draw() < 0.25) return this.#aboutTarget(operand())
    return this.#pick([
      () => `${operand()} ${this.#pick(['==', '!=', '<', '<=', '>', '>='])} ${this.#value(bound)}`,
      () => `${operand()} in ${operand()}`,
      () => operand(),
      () => `startswith(${operand()}, ${operand()})`,
      () => `contains(${operand()}, ${operand()})`,
      () => `regex.match("^a|1$", ${operand()})`,
      () => `glob.match("a*", [], ${operand()})`,
      () => `is_string(${operand()})`,
      () => `net.cidr_contains("10.0.0.0/8", ${operand()})`,
    ])()
  }

  /** What is asked of targets themselves, and literals that are the same for all of them. */
  #aboutTarget(operand: string): string {
    const kinds = () => this.#pick(['{"tool", "prompt"}', '["prompt"]', '{"resource"}'])
    const names = () => this.#pick(['{"t0", "t2", "t3"}', '["t1", "a"]', '{"t5": 1}'])
    return this.#pick([
      () => `input.target.kind == "${this.#pick(['tool', 'prompt'])}"`,
      () => `input.target.kind in ${kinds()}`,
      () => `input.target.name in ${names()}`,
      () => `${operand} in [input.target.name, input.target.kind]`,
      () => `object.get(input.target, "kind", "") in ${kinds()}`,
      () =>
        `${operand} ${this.#pick(['==', '!=', 'in'])} ${this.#pick(['{"a", "b"}', '["a", 1]', '{"a": 1}'])}`,
      () => `data.d[${operand}]`,
    ])()
  }

  #value(bound: readonly string[]): string {
    const operand = () => this.#operand(bound)
    return this.#pick([
      operand,
      operand,
      () => this.#constant(),
      () => `count(${operand()})`,
      () => `${operand()} ${this.#pick(['+', '*', '/', '%'])} ${operand()}`,
      () => `sum(${operand()})`,
      () => `concat("-", ${operand()})`,
      () => `sort(${operand()})`,
      () => `[${operand()}, ${operand()}]`,
      () => `{"k": ${operand()}}`,
      () => `{${operand()}, ${operand()}}`,
      () => `object.get(${operand()}, "a", ${operand()})`,
      () => `sprintf("%v|%d|%s", [${operand()}, ${operand()}, ${operand()}])`,
      () => `$"{${operand()}}-{${operand()}}"`,
      () => `json.marshal(${operand()})`,
      () => `to_number(${operand()})`,
      () => `upper(${operand()})`,
      () => `split(${operand()}, ",")`,
      () => `substring(${operand()}, 1, 1)`,
      () => `sort([c | some c in ${operand()}; ${this.#condition([...bound, 'c'])}])`,
      () => `{c | some c in ${operand()}; ${this.#condition([...bound, 'c'])}}`,
      () => this.#listing(bound),
      () => this.#listing(bound),
    ])()
  }

  /**
   * An array that shows the order in which collections are gone through. No set literals with variables: topdown goes through
   * those as they are written, and twice through elements that turn out to be equal.
   */
  #listing(bound: readonly string[]): string {
    const collection = () =>
      this.#pick([`{m | some m in [${this.#operand(bound)}, 3, "b", [2], 1]}`, this.#collection(bound)])
    return this.#pick([
      () => `[c | some c in ${collection()}]`,
      () => `[[k, c] | some k, c in ${collection()}; ${this.#condition([...bound, 'k', 'c'])}]`,
      () => `[[c, e] | some c in ${collection()}; some e in ${collection()}; c != e]`,
      () => `[c | some e in ${collection()}; some c in e]`,
      () => `[c | walk(${this.#operand(bound)}, [_, c])]`,
      () => `[${this.#root}[k] | some k]`,
      () => `[[e | some e in c] | some c in ${collection()}]`,
      () => `[$"{c}-{${this.#operand(bound)}}" | some c in ${collection()}]`,
    ])()
  }

  #collection(bound: readonly string[]): string {
    return this.#draw() < 0.7 ? `${this.#root}.${this.#pick(['xs', 'o', 'a'])}` : this.#operand(bound)
  }

  /** Something whose type the compiler does not know, so that any builtin takes it. */
  #operand(bound: readonly string[]): string {
    const roll = this.#draw()
    const [rule] = [this.#pick(this.#rules.length > 0 ? this.#rules : [''])]
    if (roll < 0.3 && bound.length > 0) return this.#pick(bound)
    if (roll < 0.34 && rule !== '') return `object.get({"r": ${rule}}, ["r"], null)`
    if (roll < 0.38) return `data.ports[${this.#pick(['1', '"1"', `${this.#root}.n`, ...bound])}]`
    if (roll < 0.5) return `data.d.${this.#pick(FIELDS)}`
    if (roll < 0.6) return `${this.#root}.${this.#pick(FIELDS)}.${this.#pick(FIELDS)}`
    return `${this.#root}.${this.#pick(FIELDS)}`
  }

  #constant(): string {
    return this.#draw() < 0.5 ? this.#pick(NUMBERS) : JSON.stringify(this.#pick(STRINGS))
  }

  #isOdd(): boolean {
    return this.#oddity === 1 || this.#draw() < this.#oddity
  }

  #fresh(): string {
    this.#names += 1
    return `v${this.#names}`
  }

  #several<T>(least: number, most: number, make: () => T): readonly T[] {
    return Array.from({ length: this.#between(least, most) }, make)
  }

  #between(least: number, most: number): number {
    return least + Math.floor(this.#draw() * (most - least + 1))
  }

  #pick<T>(from: readonly T[]): T {
    const found = from[Math.floor(this.#draw() * from.length)]
    if (found === undefined) throw new Error('nothing to pick from')
    return found
  }
}
