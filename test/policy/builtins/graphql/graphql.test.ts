import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { describe, it } from 'mocha'
import { BuiltinLimitError } from '../../../../src/policy/builtins/budget.ts'
import { callBuiltin } from '../../../../src/policy/builtins/table.ts'
import { formatRegoValue, parseRegoValue } from '../../../../src/policy/builtins/value-text.ts'
import { createCompiler } from '../../../../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../../../../src/policy/compiler-artifact.ts'
import { call, createContext, itGives, Spent } from '../gives.ts'
import { randomGraphql } from './random-graphql.ts'

const SCHEMA = 'type Query { me: User } type User { id: ID! name(first: Int = 1): String friends: [User!] }'

/** A text as an operand. */
const text = JSON.stringify

describe('GraphQL builtins', () => {
  itGives('parse a query into the tree OPA gives', 'graphql.parse_query', [
    [
      [text('{ me { name } }')],
      '{"Operations": [{"Name": "", "Operation": "query", "SelectionSet": [{"Alias": "me", "Name": "me", "SelectionSet": [{"Alias": "name", "Name": "name"}]}]}]}',
    ],
    [
      [text('# why\nmutation M($id: [ID!] = 1) { n: drop(id: $id) ...F }')],
      '{"Operations": [{"Comment": {"List": [{"Value": "# why"}]}, "Name": "M", "Operation": "mutation", "SelectionSet": [{"Alias": "n", "Arguments": [{"Name": "id", "Value": {"ExpectedTypeHasDefault": false, "Kind": 0, "Raw": "id"}}], "Name": "drop"}, {"Name": "F"}], "VariableDefinitions": [{"DefaultValue": {"ExpectedTypeHasDefault": false, "Kind": 1, "Raw": "1"}, "Type": {"Elem": {"NamedType": "ID", "NonNull": true}, "NamedType": "", "NonNull": false}, "Used": false, "Variable": "id"}]}]}',
    ],
    [[text('')], '{}'],
    [[text('{ me ')], undefined],
    [[text('{}')], undefined],
    [[text('{ a(b: $c.d) }')], undefined],
  ])

  itGives('read strings as OPA does', 'graphql.parse_query', [
    [
      [text('{ a(s: "\\u00e4\\ud83d\\ude00\\n") }')],
      '{"Operations": [{"Name": "", "Operation": "query", "SelectionSet": [{"Alias": "a", "Arguments": [{"Name": "s", "Value": {"ExpectedTypeHasDefault": false, "Kind": 3, "Raw": "ä\uFFFD\uFFFD\\n"}}], "Name": "a"}]}]}',
    ],
    [
      [text('{ a(s: """\n    x\n      "y" \\""" z\n  """) }')],
      '{"Operations": [{"Name": "", "Operation": "query", "SelectionSet": [{"Alias": "a", "Arguments": [{"Name": "s", "Value": {"ExpectedTypeHasDefault": false, "Kind": 4, "Raw": "x\\n  \\"y\\" \\"\\"\\" z"}}], "Name": "a"}]}]}',
    ],
    [[text('{ a(s: "\n") }')], undefined],
    [[text('{ a(s: 01) }')], undefined],
    [[text('{ a(s: 1.) }')], undefined],
  ])

  itGives('parse a schema without checking it', 'graphql.parse_schema', [
    [
      [text('"what" type T implements I { a(b: X = 1): Y! @d }')],
      '{"Definitions": [{"BuiltIn": false, "Description": "what", "Fields": [{"Arguments": [{"DefaultValue": {"ExpectedTypeHasDefault": false, "Kind": 1, "Raw": "1"}, "Description": "", "Name": "b", "Type": {"NamedType": "X", "NonNull": false}}], "Description": "", "Directives": [{"Location": "", "Name": "d"}], "Name": "a", "Type": {"NamedType": "Y", "NonNull": true}}], "Interfaces": ["I"], "Kind": "OBJECT", "Name": "T"}]}',
    ],
    [[text('type T {')], undefined],
    [[text('query { a }')], undefined],
  ])

  itGives('know schemas that hold together', 'graphql.schema_is_valid', [
    [[text(SCHEMA)], 'true'],
    [[text('type Query { a: Missing }')], 'false'],
    [[text('type Query { a: Int a: Int }')], 'false'],
    [[text('type Query { __a: Int }')], 'false'],
    [[text('type Query { a(x: Query): Int }')], 'false'],
    [[text('input I { i: I! } type Query { a: Int }')], 'false'],
    [[text('interface I { a: Int } type T implements I { b: Int }')], 'false'],
    [[text('scalar Int')], 'false'],
    [[text('extend type Query { a: Int }')], 'true'],
    [['{"Definitions": [{"Kind": "SCALAR", "Name": "S"}]}'], 'true'],
    [['{"Definitions": [null]}'], 'false'],
    [['{"Definitions": "S"}'], 'false'],
    [['1'], 'false'],
  ])

  itGives('know queries that fit a schema', 'graphql.is_valid', [
    [[text('{ me { id name(first: 2) } }'), text(SCHEMA)], 'true'],
    [[text('query($n: Int) { me { name(first: $n) } }'), text(SCHEMA)], 'true'],
    [[text('{ __schema { types { name } } }'), text(SCHEMA)], 'true'],
    [[text('{ me }'), text(SCHEMA)], 'false'],
    [[text('{ me { id { x } } }'), text(SCHEMA)], 'false'],
    [[text('{ me { password } }'), text(SCHEMA)], 'false'],
    [[text('{ me { name(last: 1) } }'), text(SCHEMA)], 'false'],
    [[text('{ me { name(first: "1") } }'), text(SCHEMA)], 'false'],
    [[text('mutation { me { id } }'), text(SCHEMA)], 'false'],
    [[text('{ me { id: name id } }'), text(SCHEMA)], 'false'],
    [[text('query($n: String) { me { name(first: $n) } }'), text(SCHEMA)], 'false'],
    [[text('{ me { ...F } }'), text(SCHEMA)], 'false'],
    [[text('{ me { ...F } } fragment F on User { friends { ...F } }'), text(SCHEMA)], 'false'],
    [[text('{ me { id } }'), text('nonsense')], 'false'],
  ])

  it('refuse a cycle of fragments whose fields OPA compares until its stack is full', () => {
    const query = '{ me { ...F } } fragment F on User { friends { ...F } friends { friends { ...F } } }'
    expect(call('graphql.is_valid', text(query), text(SCHEMA))).to.equal('false')
  })

  it('give both trees of a query that fits, and the marks of one that does not', () => {
    const [query, schema] = [text('{ me { id } }'), text(SCHEMA)]
    const trees = `${call('graphql.parse_query', query)}, ${call('graphql.parse_schema', schema)}`
    expect(call('graphql.parse', query, schema)).to.equal(`[${trees}]`)
    expect(call('graphql.parse_and_verify', query, schema)).to.equal(`[true, ${trees}]`)
    expect(call('graphql.parse', text('{ you }'), schema)).to.equal(undefined)
    expect(call('graphql.parse_and_verify', text('{ you }'), schema)).to.equal('[false, {}, {}]')
  })

  it('take the trees they give in place of the texts', () => {
    const query = call('graphql.parse_query', text('{ me { id friends { name(first: 3) } } }')) ?? ''
    const schema = call('graphql.parse_schema', text(SCHEMA)) ?? ''
    expect(call('graphql.parse', query, schema)).to.equal(`[${query}, ${schema}]`)
    expect(call('graphql.is_valid', query.replace('"Kind": 1', '"Kind": 3'), schema)).to.equal('false')
    expect(call('graphql.is_valid', query.replace('"Kind": 1', '"Kind": "1"'), schema)).to.equal('false')
  })

  it('are charged the same for a schema seen before', () => {
    const used = [1, 2].map(() => {
      const context = createContext()
      callBuiltin('graphql.is_valid', [text('{ me { id } }'), text(`${SCHEMA} # seen twice`)], context)
      return context.used()
    })
    expect(used[1]).to.equal(used[0])
  })
})

describe('hostile GraphQL', () => {
  const count = (n: number, write: (at: number) => string): string =>
    Array.from({ length: n }, (_, at) => write(at)).join(' ')
  const asked =
    (query: string, schema = SCHEMA) =>
    (): unknown =>
      callBuiltin('graphql.is_valid', [text(query), text(schema)], createContext())

  it('is refused where it is nested or chained deeper than the bounds', () => {
    expect(asked('{ me '.repeat(50_000))).to.throw(BuiltinLimitError, 'nested deeper')
    expect(asked(`{ a(x: ${'['.repeat(50_000)}`)).to.throw(BuiltinLimitError, 'nested deeper')
    const chain = count(2_000, (at) => `fragment F${at} on User { id ...F${at + 1} }`)
    expect(asked(`{ me { ...F0 } } ${chain} fragment F2000 on User { id }`)).to.throw(BuiltinLimitError)
  })

  it('spends the fuel of its own evaluation where comparing or visiting would not end', () => {
    const introspection = count(
      40,
      (at) => `fragment F${at} on __Type { ofType { ...F${at + 1} } x: ofType { ...F${at + 1} } }`,
    )
    expect(
      asked(`{ __schema { types { ...F0 } } } ${introspection} fragment F40 on __Type { name }`),
    ).to.throw(Spent)
    expect(asked(`{ me { ${count(3_000, () => 'friends { id }')} } }`)).to.throw(Spent)
    const fragments = count(2_000, (at) => `fragment F${at} on User { a${at}: id }`)
    expect(asked(`{ me { ${count(2_000, (at) => `...F${at}`)} } } ${fragments}`)).to.throw(Spent)
  })

  it('is refused where it has more tokens than a value may have elements', () => {
    const context = createContext(Number.MAX_SAFE_INTEGER)
    expect(() => callBuiltin('graphql.parse_query', [text(`{ ${'a '.repeat(70_000)} }`)], context)).to.throw(
      BuiltinLimitError,
    )
  })
})

describe('GraphQL builtins and those of OPA', () => {
  const SEEDS = 60
  const RULES = `package compare

schemas[i] := graphql.parse_schema(input.schemas[i])
valid_schemas contains i if { some i, schema in input.schemas; graphql.schema_is_valid(schema) }
queries[i] := graphql.parse_query(input.pairs[i][0])
valid contains i if { some i, pair in input.pairs; graphql.is_valid(pair[0], pair[1]) }
verified[i] := graphql.parse_and_verify(input.pairs[i][0], input.pairs[i][1])
`

  it(`agree on random schemas and queries, sound and damaged (${SEEDS} seeds)`, async function () {
    this.timeout(240_000)
    const compiler = createCompiler({
      artifact: await loadCompilerArtifact(join(tmpdir(), 'mcp-policy-gateway-test')),
    })
    const all = Array.from({ length: SEEDS }, (_, seed) => randomGraphql(seed + 1))
    const schemas = all.map(({ schema }) => schema)
    const pairs = all.flatMap(({ schema, queries }) => queries.map((query) => [query, schema] as const))
    const evaluated = await compiler
      .evaluate({
        sources: { 'compare.rego': RULES },
        query: 'data.compare = x',
        inputText: JSON.stringify({ schemas, pairs }),
        timeoutMs: 200_000,
      })
      .finally(() => compiler.close())
    if (!evaluated.ok) throw new Error(evaluated.errors.map(({ message }) => message).join('\n'))
    const object = (entries: readonly (readonly [number, string | undefined])[]): string =>
      `{${entries.flatMap(([at, value]) => (value === undefined ? [] : [`${at}: ${value}`])).join(', ')}}`
    const set = (results: readonly (string | undefined)[]): string => {
      const held = results.flatMap((result, at) => (result === 'true' ? [String(at)] : []))
      return held.length === 0 ? 'set()' : `{${held.join(', ')}}`
    }
    const each = (name: string): readonly (readonly [number, string | undefined])[] =>
      pairs.map(([query, schema], at) => [at, call(name, text(query), text(schema))])
    const ours = `{
      "schemas": ${object(schemas.map((schema, at) => [at, call('graphql.parse_schema', text(schema))]))},
      "valid_schemas": ${set(schemas.map((schema) => call('graphql.schema_is_valid', text(schema))))},
      "queries": ${object(pairs.map(([query], at) => [at, call('graphql.parse_query', text(query))]))},
      "valid": ${set(each('graphql.is_valid').map(([, result]) => result))},
      "verified": ${object(each('graphql.parse_and_verify'))}
    }`
    const [theirs = ''] = evaluated.texts.map(({ x = '' }) => x)
    const results = parseRegoValue(theirs)
    expect(formatRegoValue(parseRegoValue(ours))).to.equal(formatRegoValue(results))
    expect(theirs).to.contain('[true, ')
  })
})
