import { describe } from 'mocha'
import { itGives } from './gives.ts'

describe('string builtins', () => {
  itGives('count occurrences without overlap, and an empty needle between all characters', 'strings.count', [
    [['"cheese"', '"e"'], '3'],
    [['"aaaa"', '"aa"'], '2'],
    [['"é😀x"', '""'], '4'],
    [['""', '""'], '1'],
    [['"abc"', '"x"'], '0'],
    [['1', '"a"'], undefined],
  ])

  itGives('find all positions in code points, overlapping ones too', 'indexof_n', [
    [['"sadaad"', '"a"'], '[1, 3, 4]'],
    [['"aaaa"', '"aa"'], '[0, 1, 2]'],
    [['"é😀a😀"', '"😀"'], '[1, 3]'],
    [['"abc"', '"x"'], '[]'],
    [['"abc"', '""'], undefined],
    [['"x"', '1'], undefined],
  ])

  itGives('split off the first or the last parts', 'strings.split_n', [
    [['"a,b,c,d"', '","', '2'], '["a", "b"]'],
    [['"a,b,c,d"', '","', '-2'], '["c", "d"]'],
    [['"a,b"', '","', '9'], '["a", "b"]'],
    [['"a,b"', '","', '0'], '[]'],
    [['"a,b"', '","', '-9'], '["a", "b"]'],
    [['"é😀"', '""', '-1'], '["😀"]'],
    [['"abc"', '"x"', '1'], '["abc"]'],
    [['"a,b"', '","', '1.5'], undefined],
    [['"a,b"', '","', '1.0'], '["a"]'],
  ])

  itGives('match any prefix of any text', 'strings.any_prefix_match', [
    [['"abc"', '"ab"'], 'true'],
    [['"abc"', '["x", "ab"]'], 'true'],
    [['["x", "abc"]', '{"ab", "y"}'], 'true'],
    [['["abc"]', '[]'], 'false'],
    [['[]', '["a"]'], 'false'],
    [['"abc"', '["ab", 1]'], undefined],
    [['1', '"a"'], undefined],
    [['""', '""'], 'true'],
    [['["é😀"]', '["é"]'], 'true'],
  ])

  itGives('match any suffix of any text', 'strings.any_suffix_match', [
    [['"a.txt"', '{".txt", ".md"}'], 'true'],
    [['["a", "b.md"]', '[".txt", ".md"]'], 'true'],
    [['"abc"', '"ab"'], 'false'],
    [['{"x"}', 'set()'], 'false'],
    [['"a"', 'null'], undefined],
  ])
})
