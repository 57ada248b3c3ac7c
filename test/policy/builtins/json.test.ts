import { describe } from 'mocha'
import { itGives } from './gives.ts'

describe('JSON builtins', () => {
  itGives('apply the operations of RFC 6902', 'json.patch', [
    [['{"a": {"foo": 1}}', '[{"op": "add", "path": "/a/bar", "value": 2}]'], '{"a": {"bar": 2, "foo": 1}}'],
    [
      [
        '{"a": [1, 2]}',
        '[{"op": "add", "path": "a/-", "value": 3}, {"op": "add", "path": "/a/0", "value": 0}]',
      ],
      '{"a": [0, 1, 2, 3]}',
    ],
    [['{"a": 1, "b": 2}', '[{"op": "remove", "path": "/a"}]'], '{"b": 2}'],
    [['[1, 2, 3]', '[{"op": "remove", "path": "/1"}]'], '[1, 3]'],
    [['{"a": 1}', '[{"op": "replace", "path": "/a", "value": {"x": set()}}]'], '{"a": {"x": set()}}'],
    [['{"a": {"b": 1}}', '[{"op": "move", "from": "/a/b", "path": "/c"}]'], '{"a": {}, "c": 1}'],
    [['{"a": [1]}', '[{"op": "copy", "from": "/a", "path": "/b"}]'], '{"a": [1], "b": [1]}'],
    [['{"a~/b": 1}', '[{"op": "test", "path": "/a~0~1b", "value": 1.0}]'], '{"a~/b": 1}'],
    [['1', '[{"op": "replace", "path": "", "value": {"a": 1}}]'], '{"a": 1}'],
    [['{}', '[]'], '{}'],
  ])

  itGives('patch sets and keys of any type', 'json.patch', [
    [['{"foo": {"a", "b"}}', '[{"op": "add", "path": "foo/d", "value": "d"}]'], '{"foo": {"a", "b", "d"}}'],
    [['{"foo": {"a"}}', '[{"op": "add", "path": "foo/d", "value": "e"}]'], undefined],
    [['{[1]}', '[{"op": "add", "path": [[1], 1], "value": 2}]'], '{[1, 2]}'],
    [['{1: 2}', '[{"op": "remove", "path": [1.0]}]'], '{}'],
    [['{"a": {"x", "y"}}', '[{"op": "move", "from": "a/x", "path": "b"}]'], '{"a": {"y"}, "b": "x"}'],
  ])

  itGives('are undefined when an operation cannot be applied', 'json.patch', [
    [['{}', '[{"op": "add", "path": "/a/b", "value": 1}]'], undefined],
    [['[1]', '[{"op": "add", "path": "/2", "value": 1}]'], undefined],
    [['[1]', '[{"op": "remove", "path": "/01"}]'], undefined],
    [['[1]', '[{"op": "remove", "path": "/-"}]'], undefined],
    [['{}', '[{"op": "remove", "path": "/a"}]'], undefined],
    [['{"a": 1}', '[{"op": "test", "path": "/a", "value": 2}]'], undefined],
    [['{}', '[{"op": "nope", "path": "/a"}]'], undefined],
    [['{}', '[{"path": "/a"}]'], undefined],
    [['{}', '[{"op": "add", "path": "/a"}]'], undefined],
    [['{}', '[1]'], undefined],
    [['{}', '{}'], undefined],
    [['"a"', '[{"op": "add", "path": "/x", "value": 1}]'], undefined],
  ])

  itGives('marshal compact and indented', 'json.marshal_with_options', [
    [['{"b": [1, {}], "a": "<é>"}', '{}'], '"{\\"a\\":\\"\\\\u003cé\\\\u003e\\",\\"b\\":[1,{}]}"'],
    [
      ['{"b": [1, {}], "a": null}', '{"indent": "  "}'],
      '"{\\n  \\"a\\": null,\\n  \\"b\\": [\\n    1,\\n    {}\\n  ]\\n}"',
    ],
    [['[1]', '{"prefix": "> ", "indent": " "}'], '"> [\\n>  1\\n> ]"'],
    [['[1]', '{"pretty": true}'], '"[\\n\\t1\\n]"'],
    [['[1]', '{"pretty": false, "indent": " "}'], '"[1]"'],
    [['{1: {2, 1}, [1]: 1.50}', '{}'], '"{\\"1\\":[1,2],\\"[1]\\":1.50}"'],
    [['[1]', '{"nope": 1}'], undefined],
    [['[1]', '{"indent": 1}'], undefined],
    [['[]', '{"pretty": true}'], '"[]"'],
  ])
})
