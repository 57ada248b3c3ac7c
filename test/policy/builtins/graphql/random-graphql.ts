/** Random GraphQL schemas, queries for them, and damaged texts of both: the same for the same seed. */
import type { Draw } from '../../fidelity/random-policy.ts'
import { createDraw } from '../../fidelity/random-policy.ts'

interface FieldModel {
  readonly name: string
  readonly type: string
  readonly parameters: readonly FieldModel[]
}

interface TypeModel {
  readonly name: string
  readonly kind: 'type' | 'interface' | 'input' | 'enum' | 'union' | 'scalar'
  readonly fields: readonly FieldModel[]
  /** Of a union its members, of an enum its values, else what it implements. */
  readonly names: readonly string[]
}

const LEAVES = ['Int', 'Float', 'String', 'Boolean', 'ID', 'Color', 'Date']
const COMPOSITES = ['Person', 'Pet', 'Dog', 'Cat', 'Query']
const INPUTS = ['Filter', 'Range']
const FIELDS = ['id', 'name', 'age', 'pet', 'friends', 'owner', 'at', 'color']
const VALUES = ['RED', 'GREEN', 'BLUE']
const DIRECTIVES = ['@skip(if: true)', '@include(if: $flag)', '@tag', '@tag(n: 1)', '@deprecated', '@defer']
const LITERALS = [
  '1',
  '-7',
  '99999999999999999999',
  '1.5',
  '1e400',
  '"s"',
  '"\\u00e4\\ud83d\\ude00"',
  '"""\n    block\n      "quoted"\n  """',
  'true',
  'null',
  'RED',
  'PINK',
  '[1, 2]',
  '[]',
  '{}',
  '{min: 1}',
  '{min: 1, max: 2}',
  '{name: "a", range: {min: 1, max: 2}}',
  '$flag',
  '$v',
]
/** What a damaged text may hold at any place. */
const SCRAPS = [
  ...['{', '}', '(', ')', '[', ']', ':', '=', '@', '!', '$', '&', '|', '...', '"', '"""', '\\', '#', '.'],
  ...[
    'on',
    'fragment',
    'query',
    'type',
    'extend',
    'implements',
    '"on"',
    'null',
    '0',
    '01',
    '1.',
    '1e',
    '-',
    'é',
  ],
  ...[
    '\uFEFF',
    '\r\n',
    '\r',
    '\t',
    ',',
    '# note\n',
    '__typename',
    '__schema { types { name } }',
    '\u0001',
    "'",
  ],
]

/** A schema and queries, most of them made for it. */
export interface RandomGraphql {
  readonly schema: string
  readonly queries: readonly string[]
}

/** One schema of the seed and some queries. */
export function randomGraphql(seed: number, queries = 4): RandomGraphql {
  const writer = new GraphqlWriter(createDraw(seed))
  const schema = writer.schema()
  return { schema, queries: Array.from({ length: queries }, () => writer.document()) }
}

class GraphqlWriter {
  readonly #draw: Draw
  #types: readonly TypeModel[] = []
  #fragments: readonly string[] = []

  constructor(draw: Draw) {
    this.#draw = draw
  }

  schema(): string {
    this.#types = this.#model()
    const definitions = this.#types.map((type) => this.#definition(type))
    if (this.#chance(0.9))
      definitions.push('directive @tag(n: Int = 0) repeatable on FIELD | OBJECT | QUERY | ENUM')
    if (this.#chance(0.3)) definitions.push('schema { query: Query mutation: Person }')
    if (this.#chance(0.2)) definitions.push(`extend type Person { more${this.#field(FIELDS).slice(2)} }`)
    if (this.#chance(0.1)) definitions.push('extend schema { subscription: Dog }')
    if (this.#chance(0.1)) definitions.push('extend enum Color @tag { BLACK }', 'extend union Any = Cat')
    return this.#damaged(definitions.join('\n'), 0.1)
  }

  document(): string {
    this.#fragments = ['F', 'G', 'H'].slice(0, Math.floor(this.#draw() * 4))
    const operations = this.#chance(0.85)
      ? [this.#operation('')]
      : ['A', 'B'].map((name) => this.#operation(name))
    const fragments = this.#fragments.map((name) => {
      const type = this.#pick(this.#chance(0.9) ? COMPOSITES : [...LEAVES, ...INPUTS, 'Nothing'])
      return `fragment ${name} on ${type} ${this.#directive()} ${this.#selections(type, 2)}`
    })
    return this.#damaged([...operations, ...fragments].join(this.#comment()), 0.15)
  }

  #model(): readonly TypeModel[] {
    const fields = (names: readonly string[], types: readonly string[], parameters: boolean): FieldModel[] =>
      names
        .filter((_, at) => at === 0 || this.#chance(0.6))
        .map((name) => ({
          name,
          type: this.#wrapped(this.#pick(types)),
          parameters:
            parameters && this.#chance(0.4) ? fields(['a', 'b'], [...LEAVES, ...INPUTS], false) : [],
        }))
    const outputs = [...LEAVES, ...COMPOSITES, 'Any']
    const shared = fields(FIELDS.slice(0, 3), LEAVES, true)
    const object = (name: string, names: readonly string[]): TypeModel => ({
      name,
      kind: 'type',
      names,
      fields: [...(this.#chance(0.95) ? shared : []), ...fields(FIELDS.slice(3), outputs, true)],
    })
    return [
      { name: 'Date', kind: 'scalar', fields: [], names: [] },
      { name: 'Color', kind: 'enum', fields: [], names: VALUES },
      { name: 'Any', kind: 'union', fields: [], names: ['Dog', this.#chance(0.95) ? 'Cat' : 'Pet'] },
      { name: 'Pet', kind: 'interface', fields: shared, names: [] },
      object('Person', []),
      object('Dog', ['Pet']),
      object('Cat', this.#chance(0.5) ? ['Pet'] : []),
      object('Query', []),
      {
        name: 'Range',
        kind: 'input',
        fields: fields(['min', 'max'], ['Int', 'Int', 'Range'], false),
        names: [],
      },
      {
        name: 'Filter',
        kind: 'input',
        fields: fields(['name', 'range', 'min'], [...LEAVES, 'Range'], false),
        names: [],
      },
    ]
  }

  #definition({ name, kind, fields, names }: TypeModel): string {
    const head = `${this.#comment()}${this.#pick(['', '', '"""\n  what\n  it is\n"""', '"short" '])}${kind} ${name}`
    const directives = this.#chance(0.02)
      ? this.#pick(['@tag', '@oneOf', '@specifiedBy(url: "u")', '@deprecated'])
      : ''
    if (kind === 'scalar') return `${head} ${directives}`
    if (kind === 'union') return `${head} ${directives} = ${names.join(' | ')}`
    if (kind === 'enum') return `${head} ${directives} { ${names.join(' ')} }`
    const implementing = names.length > 0 ? `implements ${names.join(' & ')}` : ''
    const body = fields.map((field) => this.#fieldDefinition(field, kind === 'input'))
    return `${head} ${implementing} ${directives} { ${body.join('\n')} ${this.#comment()}}`
  }

  #fieldDefinition({ name, type, parameters }: FieldModel, input: boolean): string {
    const list = parameters.map((parameter) => this.#fieldDefinition(parameter, true)).join(', ')
    const fallback = input && this.#chance(0.2) ? ` = ${this.#literal(type).replace('$', '')}` : ''
    const directive = this.#chance(0.02) ? ' @deprecated' : ''
    return `${this.#comment()}${name}${list === '' ? '' : `(${list})`}: ${type}${fallback}${directive}`
  }

  #field(names: readonly string[]): string {
    return `${this.#pick(names)}: ${this.#wrapped(this.#pick(LEAVES))}`
  }

  #wrapped(type: string): string {
    const bang = (): string => (this.#chance(0.25) ? '!' : '')
    return this.#chance(0.2) ? `[${type}${bang()}]${bang()}` : `${type}${bang()}`
  }

  #operation(name: string): string {
    const selections = this.#selections('Query', 3)
    if (this.#chance(0.3) && name === '') return selections
    const kind = this.#chance(0.95) ? 'query' : this.#pick(['mutation', 'subscription'])
    const variables = [
      ...(selections.includes('$flag') || this.#chance(0.1) ? ['$flag: Boolean!'] : []),
      ...(selections.includes('$v')
        ? [`$v: ${this.#wrapped(this.#pick([...LEAVES, ...INPUTS]))}${this.#chance(0.3) ? ' = 1' : ''}`]
        : []),
    ]
    const list = variables.length > 0 && this.#chance(0.95) ? `(${variables.join(', ')})` : ''
    return `${kind} ${name} ${list} ${this.#directive()} ${selections}`
  }

  #selections(type: string, depth: number): string {
    const count = 1 + Math.floor(this.#draw() * 3)
    const selections = Array.from({ length: count }, () => this.#selection(type, depth))
    return `{ ${this.#comment()}${selections.join(' ')} }`
  }

  #selection(type: string, depth: number): string {
    if (this.#chance(0.1)) return '__typename'
    if (this.#chance(0.1))
      return `... ${this.#condition(type)} ${this.#directive()} ${this.#selections(type, depth - 1)}`
    if (this.#fragments.length > 0 && this.#chance(0.2)) return `...${this.#pick([...this.#fragments, 'F'])}`
    const fields = this.#types.find(({ name }) => name === type)?.fields ?? []
    if (fields.length === 0) return '__typename'
    const field = this.#chance(0.98) ? this.#pick(fields) : undefined
    if (field === undefined) return this.#pick(FIELDS)
    const inner = field.type.replace(/[[\]!]/g, '')
    const composite = !LEAVES.includes(inner) && depth > 0
    const alias = this.#chance(0.15) ? `${this.#pick(['id', 'x', 'name'])}: ` : ''
    const given = field.parameters.filter(({ type: wanted }) => wanted.endsWith('!') || this.#chance(0.4))
    const values = given.map(({ name, type: wanted }) => `${name}: ${this.#literal(wanted)}`).join(', ')
    const list = values === '' ? '' : `(${values})`
    return `${alias}${field.name}${list} ${this.#directive()} ${composite ? this.#selections(inner, depth - 1) : ''}`
  }

  #condition(type: string): string {
    return this.#chance(0.3) ? '' : `on ${this.#chance(0.8) ? type : this.#pick(COMPOSITES)}`
  }

  /** Most often a literal that fits. */
  #literal(type: string): string {
    const inner = type.replace(/[[\]!]/g, '')
    if (this.#chance(0.2)) return this.#pick(LITERALS)
    const fitting: Readonly<Record<string, readonly string[]>> = {
      Int: ['1', '-7'],
      Float: ['1', '1.5'],
      String: ['"s"', '""'],
      Boolean: ['true', 'false'],
      ID: ['1', '"s"'],
      Color: VALUES,
    }
    return this.#pick(fitting[inner] ?? LITERALS)
  }

  #directive(): string {
    return this.#chance(0.05) ? this.#pick(this.#chance(0.8) ? DIRECTIVES.slice(0, 2) : DIRECTIVES) : ''
  }

  #comment(): string {
    return this.#chance(0.05) ? '# a note\n' : '\n'
  }

  /** The text, or one with a token or a character dropped, doubled, moved or put in. */
  #damaged(text: string, share: number): string {
    if (!this.#chance(share)) return text
    const tokens = text.split(/(\s+|[{}()[\]:!@$])/)
    const at = Math.floor(this.#draw() * tokens.length)
    const token = tokens[at] ?? ''
    const other = Math.floor(this.#draw() * tokens.length)
    switch (Math.floor(this.#draw() * 5)) {
      case 0:
        return tokens.toSpliced(at, 1).join('')
      case 1:
        return tokens.toSpliced(at, 0, token, ' ', token).join('')
      case 2:
        return tokens.toSpliced(at, 1, tokens[other] ?? '').join('')
      case 3:
        return tokens.toSpliced(at, 0, this.#pick(SCRAPS)).join('')
      default:
        return text.slice(0, Math.floor(this.#draw() * text.length))
    }
  }

  #chance(share: number): boolean {
    return this.#draw() < share
  }

  #pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.#draw() * from.length)] as T
  }
}
