/** Builtins that OPA's Wasm has, too, and answers otherwise than topdown; the results here are topdown's. */
import { describe } from 'mocha'
import { itGives } from './gives.ts'

describe('builtins that replace those of the module', () => {
  itGives('match addresses in either notation', 'net.cidr_contains', [
    [['"10.0.0.0/8"', '"::ffff:10.1.2.3"'], 'true'],
    [['"10.0.0.0/8"', '"10.1.0.0/16"'], 'true'],
    [['"10.0.0.0/8"', '"10.0.0.0/4"'], 'false'],
    [['"10.0.0.0/+8"', '"10.0.0.1"'], undefined],
    [['"10.0.0.0/8"', '"fe80::1%eth0"'], undefined],
  ])

  itGives('intersect networks in either notation', 'net.cidr_intersects', [
    [['"10.0.0.0/8"', '"::ffff:10.0.0.0/104"'], 'true'],
    [['"10.0.0.0/8"', '"11.0.0.0/8"'], 'false'],
  ])

  itGives('match globs', 'glob.match', [
    [['"*.com"', '["."]', '"a.com"'], 'true'],
    [['"*.com"', '["."]', '"a.b.com"'], 'false'],
    [['"**.com"', '["."]', '"a.b.com"'], 'true'],
    [['"*"', 'null', '"a.b"'], 'true'],
    [['"*"', '[]', '"a.b"'], 'false'],
    [['"{a,{b,c}}"', '[]', '"c"'], 'true'],
    [['"[!a-c]at"', '[]', '"dat"'], 'true'],
    [['"\\\\*"', '[]', '"*"'], 'true'],
    [['"a+b"', '[]', '"aab"'], 'false'],
    [['"{a"', '[]', '"a"'], undefined],
    [['"a["', '[]', '"a"'], undefined],
    [['"[c-a]"', '[]', '"b"'], undefined],
    [['"*"', '["ab"]', '"x"'], undefined],
  ])

  itGives('match RE2 patterns', 'regex.match', [
    [['"(?<x>a)"', '"a"'], 'true'],
    [['"\\\\C"', '"a"'], undefined],
    [['"^a$"', '"a\\n"'], 'false'],
    [['"(?=a)"', '"a"'], undefined],
  ])

  itGives('know RE2 patterns', 'regex.is_valid', [
    [['"(?<x>a)"'], 'true'],
    [['"\\\\C"'], 'false'],
    [['1'], 'false'],
  ])

  itGives('find groups', 'regex.find_all_string_submatch_n', [
    [['"(a)(b)?"', '"abaab"', '2'], '[["ab", "a", "b"], ["a", "a", ""]]'],
    [['"a*"', '"baaab"', '-1'], '[[""], ["aaa"], [""]]'],
    [['"a"', '"aaa"', '0'], '[]'],
  ])

  itGives('read JSON and nothing else', 'json.unmarshal', [
    [['"[9007199254740993]"'], '[9007199254740993]'],
    [['"{\\"a\\": 1, \\"a\\": 2}"'], '{"a": 2}'],
    [['"01"'], undefined],
    [['"1 2"'], undefined],
    [['"[1,]"'], undefined],
    [['"{1: 2}"'], undefined],
    [['"1e99999"'], undefined],
    [['"1e309"'], '1e309'],
    [['"\\"\\\\ud800\\""'], '"\ufffd"'],
  ])

  itGives('know JSON', 'json.is_valid', [
    [['"[1]"'], 'true'],
    [['"[1,]"'], 'false'],
    [['"1."'], 'false'],
    [['1'], 'false'],
  ])

  itGives('write JSON with its keys sorted', 'json.marshal', [
    [['{"b": 1, "a": {2, 1}}'], '"{\\"a\\":[1,2],\\"b\\":1}"'],
    [['"<a>"'], '"\\"\\\\u003ca\\\\u003e\\""'],
  ])

  itGives('keep what paths lead to', 'json.filter', [
    [['{"a": [1, 2, {"x": 3}], "b": 1}', '["a/2/x"]'], '{"a": [{"x": 3}]}'],
    [['{"a/b": 1, "c": 2}', '["/a~1b"]'], '{"a/b": 1}'],
    [['{"a": {"b": 1}}', '["a", "a/b"]'], '{"a": {"b": 1}}'],
    [['{"a": 1}', '[""]'], '{}'],
    [['{"a": 1}', '[1]'], undefined],
  ])

  itGives('remove what paths lead to', 'json.remove', [
    [['{"a": [1, 2, 3]}', '["a/1"]'], '{"a": [1, 3]}'],
    [['{"a": {"b": 1, "c": 2}}', '[["a", "b"]]'], '{"a": {"c": 2}}'],
    [['{"a": 1}', '[[]]'], '{"a": 1}'],
  ])

  itGives('decode what is padded', 'base64.decode', [
    [['"YQ=="'], '"a"'],
    [['"YQ==\\n"'], '"a"'],
    [['"YQ"'], undefined],
    [['""'], '""'],
  ])

  itGives('know what is padded', 'base64.is_valid', [
    [['"YQ"'], 'false'],
    [['"YQ=="'], 'true'],
  ])

  itGives('join sets in their order', 'concat', [
    [['","', '{"b", "a"}'], '"a,b"'],
    [['","', '[]'], '""'],
    [['","', '[1]'], undefined],
  ])

  itGives('find text by characters', 'indexof', [
    [['"😀b"', '"b"'], '1'],
    [['"abc"', '"x"'], '-1'],
    [['"abc"', '""'], undefined],
  ])

  itGives('replace text', 'replace', [
    [['"aaa"', '"a"', '"b"'], '"bbb"'],
    [['"abc"', '""', '"-"'], '"-a-b-c-"'],
  ])

  itGives('cut text by characters', 'substring', [
    [['"äö😀x"', '1', '2'], '"ö😀"'],
    [['"abc"', '1.0', '-1'], '"bc"'],
    [['"abc"', '-1', '1'], undefined],
    [['"abc"', '5', '1'], '""'],
  ])

  itGives('merge objects', 'object.union_n', [
    [['[]'], '{}'],
    [['[{"a": {"b": 1}}, {"a": {"c": 2}}]'], '{"a": {"b": 1, "c": 2}}'],
    [['[1]'], undefined],
  ])
})
