import { describe } from 'mocha'
import { itGives } from './gives.ts'

describe('casts, subsets, ranges and paths', () => {
  itGives('cast a collection to an array in Rego order', 'cast_array', [
    [['{3, 1, 2}'], '[1, 2, 3]'],
    [['[1, 1]'], '[1, 1]'],
    [['{"a": 1}'], undefined],
    [['set()'], '[]'],
  ])

  itGives('cast a collection to a set by Rego equality', 'cast_set', [
    [['[1, 1.0, 2]'], '{1, 2}'],
    [['{1}'], '{1}'],
    [['"a"'], undefined],
    [['[]'], 'set()'],
  ])

  itGives('cast only their own type', 'cast_string', [
    [['"a"'], '"a"'],
    [['1'], undefined],
  ])

  itGives('cast booleans', 'cast_boolean', [
    [['false'], 'false'],
    [['"false"'], undefined],
  ])

  itGives('cast null', 'cast_null', [
    [['null'], 'null'],
    [['0'], undefined],
  ])

  itGives('cast objects', 'cast_object', [
    [['{"a": {1}}'], '{"a": {1}}'],
    [['[1]'], undefined],
  ])

  itGives('compare objects member by member, nested', 'object.subset', [
    [['{"a": {"b": 1, "c": 2}, "d": 3}', '{"a": {"b": 1}}'], 'true'],
    [['{"a": 1}', '{"a": 2}'], 'false'],
    [['{"a": [1, 2, 3]}', '{"a": [2, 3]}'], 'true'],
    [['{"a": [1, 2, 3]}', '{"a": [1, 3]}'], 'false'],
    [['{"a": {1, 2}}', '{"a": {2}}'], 'true'],
    [['{"a": {"b": 1}}', '{"a": {}}'], 'true'],
    [['{1: "x"}', '{1.0: "x"}'], 'true'],
    [['{"a": [1]}', '{"a": {1}}'], 'false'],
  ])

  itGives('compare sets and arrays, and find a set in an array', 'object.subset', [
    [['{1, 2, 3}', '{1, 3}'], 'true'],
    [['{1}', '{1, 2}'], 'false'],
    [['[1, 2, 3]', '[2, 3]'], 'true'],
    [['[1, 2]', '[2, 1]'], 'false'],
    [['[1, 2, 3]', '{3, 1}'], 'true'],
    [['[1, 2]', '{4}'], 'false'],
    [['[]', 'set()'], 'false'],
    [['[1]', 'set()'], 'true'],
    [['{1}', '[1]'], undefined],
    [['"ab"', '"a"'], undefined],
  ])

  itGives('count up and down in steps', 'numbers.range_step', [
    [['0', '10', '3'], '[0, 3, 6, 9]'],
    [['5', '-5', '4'], '[5, 1, -3]'],
    [['1', '1', '7'], '[1]'],
    [['1.0', '3', '1'], '[1, 2, 3]'],
    [['1e1', '12', '1'], '[10, 11, 12]'],
    [['0', '3', '0'], undefined],
    [['0', '3', '-1'], undefined],
    [['0', '3', '1.5'], undefined],
    [
      ['12345678901234567890', '12345678901234567892', '1'],
      '[12345678901234567890, 12345678901234567891, 12345678901234567892]',
    ],
  ])

  itGives('list simple paths, cutting cycles and unknown nodes', 'graph.reachable_paths', [
    [['{"a": ["b", "c"], "b": ["d"], "c": [], "d": []}', '["a"]'], '{["a", "b", "d"], ["a", "c"]}'],
    [['{"a": {"b"}, "b": {"a"}}', '{"a"}'], '{["a", "b"]}'],
    [['{"a": ["x"]}', '["a"]'], '{["a"]}'],
    [['{"a": []}', '["a", "zz"]'], '{["a"]}'],
    [['{"a": null}', '["a"]'], '{["a"]}'],
    [['{1: [2], 2: [1, 3]}', '[1]'], '{[1, 2]}'],
    [['[]', '["a"]'], undefined],
    [['{}', '"a"'], undefined],
  ])
})
