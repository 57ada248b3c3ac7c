import { describe } from 'mocha'
import { itGives } from './gives.ts'

describe('regular expressions', () => {
  itGives('replace with groups and names', 'regex.replace', [
    [['"foo bar"', '"o+"', '"0"'], '"f0 bar"'],
    [['"-ab-axxb-"', '"a(x*)b"', '"$1"'], '"--xx-"'],
    [['"-ab-axxb-"', '"a(x*)b"', '"${1}W"'], '"-W-xxW-"'],
    [['"-ab-axxb-"', '"a(x*)b"', '"$1W"'], '"---"'],
    [['"k=v"', '"(?P<k>\\\\w+)=(?P<v>\\\\w+)"', '"$v=${k}$$"'], '"v=k$"'],
    [['"abc"', '""', '"-"'], '"-a-b-c-"'],
    [['"héé"', '"é*"', '"."'], '".h."'],
    [['"foo"', '"^[a-z]$"', '"F"'], '"foo"'],
    [['"a"', '"("', '"x"'], undefined],
    [['"a"', '"a"', '"$9$"'], '"$"'],
    [['"a"', '"(?=a)"', '"x"'], undefined],
  ])

  itGives('split around matches', 'regex.split', [
    [['"/"', '"foo//bar/baz"'], '["foo", "", "bar", "baz"]'],
    [['"a*"', '"aabaa"'], '["", "b", ""]'],
    [['","', '""'], '[""]'],
    [['""', '"é😀"'], '["é", "😀"]'],
    [['"x"', '"abc"'], '["abc"]'],
    [['"\\\\s+"', '" a  b "'], '["", "a", "b", ""]'],
    [['"["', '"a"'], undefined],
  ])

  itGives('find at most so many matches', 'regex.find_n', [
    [['"[oa]+"', '"foo bar"', '-1'], '["oo", "a"]'],
    [['"[oa]+"', '"foo bar"', '1'], '["oo"]'],
    [['"a*"', '"baac"', '-1'], '["", "aa", ""]'],
    [['"a"', '"a"', '0'], '[]'],
    [['"a"', '"a"', '1.5'], undefined],
    [['"(?i)É"', '"éÉ"', '-1'], '["é", "É"]'],
    [['"\\\\bfoo\\\\b"', '"foo food foo"', '-1'], '["foo", "foo"]'],
    [['"(?m)^."', '"ab\\ncd"', '-1'], '["a", "c"]'],
  ])

  itGives('match templates of literal text and patterns', 'regex.template_match', [
    [['"urn:foo:{.*}"', '"urn:foo:bar:baz"', '"{"', '"}"'], 'true'],
    [['"urn:foo:<[a-z]+>"', '"urn:foo:BAR"', '"<"', '">"'], 'false'],
    [['"a.b"', '"axb"', '"{"', '"}"'], 'false'],
    [['"{{a}}"', '"{a}"', '"{"', '"}"'], 'true'],
    [['"{a"', '"a"', '"{"', '"}"'], undefined],
    [['"a}"', '"a"', '"{"', '"}"'], undefined],
    [['"{(}"', '"a"', '"{"', '"}"'], undefined],
    [['"{a}"', '"a"', '"{{"', '"}"'], undefined],
    [['"é"', '"é"', '"<"', '">"'], 'true'],
  ])

  itGives('tell whether two globs have a common match', 'regex.globs_match', [
    [['"a.a.[0-9]+z"', '"b.b.[0-9]+z"'], 'false'],
    [['"[a-z]+"', '"[0-9]*"'], 'false'],
    [['"a.a"', '"aba"'], 'true'],
    [['"a*b"', '"c*b"'], 'false'],
    [['".*"', '"x+y"'], 'true'],
    [['""', '""'], 'true'],
    [['"a*b*"', '"a"'], 'false'],
    [['"[a-z"', '"a"'], undefined],
    [['"*"', '"a"'], undefined],
    [['"\\\\*"', '"[*]"'], 'true'],
    [['"a\\\\"', '"a"'], undefined],
    [['"[b-a]"', '"a"'], undefined],
  ])

  itGives('quote what globs give a meaning to', 'glob.quote_meta', [
    [['"*.github.com"'], '"\\\\*.github.com"'],
    [['"[a]{b}?\\\\!,"'], '"\\\\[a\\\\]\\\\{b\\\\}\\\\?\\\\\\\\!,"'],
    [['"plain"'], '"plain"'],
    [['1'], undefined],
  ])
})
