import { describe } from 'mocha'
import { itGives } from './gives.ts'

describe('YAML builtins', () => {
  itGives('read what go-yaml reads', 'yaml.unmarshal', [
    [['"a: 1\\nb: [x, 2.50, true, null, ~]\\n"'], '{"a": 1, "b": ["x", 2.5, true, null, null]}'],
    [['"- a\\n- b: |\\n    c\\n    d\\n"'], '["a", {"b": "c\\nd\\n"}]'],
    [
      ['"base: &b {x: 1, y: 2}\\nuse:\\n  <<: *b\\n  y: 3\\n"'],
      '{"base": {"x": 1, "y": 2}, "use": {"x": 1, "y": 3}}',
    ],
    [
      ['"a: 0x1F\\nb: 0o17\\nc: 017\\nd: 1_000\\ne: 0b11\\nf: 1e3\\n"'],
      '{"a": 31, "b": 15, "c": 15, "d": 1000, "e": 3, "f": 1000}',
    ],
    [['"a: yes\\nb: on\\nc: 2023-01-01\\n"'], '{"a": "yes", "b": "on", "c": "2023-01-01"}'],
    [['"1: a\\ntrue: b\\n"'], '{"1": "a", "true": "b"}'],
    [['"a: 1\\na: 2\\n"'], '{"a": 2}'],
    [['"a\\n---\\nb\\n"'], '"a"'],
    [['""'], 'null'],
    [['"a: !!str 1\\nb: !!int \\"3\\"\\n"'], '{"a": "1", "b": 3}'],
    [['"a: !!binary aGk=\\n"'], '{"a": "hi"}'],
    [['"n: 123456789012345678\\n"'], '{"n": 123456789012345678}'],
  ])

  itGives('refuse what it refuses', 'yaml.unmarshal', [
    [['"a: b: c"'], undefined],
    [['"[a"'], undefined],
    [['"a: *x"'], undefined],
    [['"a: &x [*x]"'], undefined],
    [['"? [a]\\n: b\\n"'], undefined],
    [['"a: .inf"'], undefined],
    [['"  a:\\nb: 1\\n"'], undefined],
    [['1'], undefined],
  ])

  itGives('tell whether a text is YAML', 'yaml.is_valid', [
    [['"a: [1, 2]"'], 'true'],
    [['"a: [1, 2"'], 'false'],
    [['1'], 'false'],
  ])

  itGives('write sorted keys and quotes where needed', 'yaml.marshal', [
    [['{"b": [1, {"c": null}], "a": {}}'], '"a: {}\\nb:\\n  - 1\\n  - c: null\\n"'],
    [
      ['["yes", "1", "a: b", "#x", "", " a", "it\'s", "a\\tb", "é", "😀"]'],
      '"- \\"yes\\"\\n- \\"1\\"\\n- \'a: b\'\\n- \'#x\'\\n- \\"\\"\\n- \' a\'\\n- it\'s\\n- \\"a\\\\tb\\"\\n- é\\n- \\"\\\\U0001F600\\"\\n"',
    ],
    [
      ['{"text": "line 1\\nline 2\\n", "a10": 1, "a9": 2}'],
      '"a9: 2\\na10: 1\\ntext: |\\n  line 1\\n  line 2\\n"',
    ],
    [['1.50'], '"1.5\\n"'],
    [['"x"'], '"x\\n"'],
    [['[]'], '"[]\\n"'],
    [['[[1], [[2]]]'], '"- - 1\\n- - - 2\\n"'],
    [['{1: {2}}'], '"\\"1\\":\\n  - 2\\n"'],
    [['[1000000.0, 12345678901234567890, 1e21]'], '"- 1e+06\\n- 12345678901234567890\\n- 1e+21\\n"'],
  ])
})
