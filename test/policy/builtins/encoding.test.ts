import { describe } from 'mocha'
import { itGives } from './gives.ts'

describe('encodings', () => {
  itGives('encode to hex', 'hex.encode', [
    [['"lorem"'], '"6c6f72656d"'],
    [['"é😀"'], '"c3a9f09f9880"'],
    [['""'], '""'],
    [['1'], undefined],
  ])

  itGives('decode hex that is text', 'hex.decode', [
    [['"6c6f72656D"'], '"lorem"'],
    [['"c3a9"'], '"é"'],
    [['""'], '""'],
    [['"abc"'], undefined],
    [['"zz"'], undefined],
  ])

  itGives('encode to base64url without padding', 'base64url.encode_no_pad', [
    [['"a"'], '"YQ"'],
    [['"ab"'], '"YWI"'],
    [['"é?>"'], '"w6k_Pg"'],
    [['""'], '""'],
  ])

  itGives('encode query text', 'urlquery.encode', [
    [['"a=b+1 c"'], '"a%3Db%2B1+c"'],
    [[`"é!*'()~-_."`], '"%C3%A9%21%2A%27%28%29~-_."'],
    [['""'], '""'],
  ])

  itGives('decode query text', 'urlquery.decode', [
    [['"a%3Db%2B1+c"'], '"a=b+1 c"'],
    [['"%C3%A9"'], '"é"'],
    [['"%zz"'], undefined],
    [['"%4"'], undefined],
    [['"a;b"'], '"a;b"'],
  ])

  itGives('encode objects, keys in order, lists repeated', 'urlquery.encode_object', [
    [['{"b": ["x y", "z"], "a": "1&2"}'], '"a=1%262&b=x+y&b=z"'],
    [['{"s": {"y", "x"}}'], '"s=x&s=y"'],
    [['{}'], '""'],
    [['{"a": 1}'], undefined],
    [['{"a": [1]}'], undefined],
    [['{1: "x"}'], '"1=x"'],
    [['{"a": []}'], '""'],
  ])

  itGives('decode objects, values always lists', 'urlquery.decode_object', [
    [['"a=1&b=2&a=3"'], '{"a": ["1", "3"], "b": ["2"]}'],
    [['"a&b="'], '{"a": [""], "b": [""]}'],
    [['""'], '{}'],
    [['"a=%zz"'], undefined],
    [['"a=1;b=2"'], undefined],
    [['"a=b=c&&=x"'], '{"": ["x"], "a": ["b=c"]}'],
    [['"__proto__=1"'], '{"__proto__": ["1"]}'],
  ])

  itGives('take URIs apart', 'uri.parse', [
    [
      ['"https://user:pw@Example.com:8080/a%20b?x=1&y#frag"'],
      '{"fragment": "frag", "hostname": "Example.com", "path": "/a b", "port": "8080", "raw_path": "/a b", "raw_query": "x=1&y", "scheme": "https"}',
    ],
    [['"/a/b"'], '{"path": "/a/b", "raw_path": "/a/b"}'],
    [['"mailto:a@b"'], '{"scheme": "mailto"}'],
    [
      ['"http://[::1]:80/"'],
      '{"hostname": "::1", "path": "/", "port": "80", "raw_path": "/", "scheme": "http"}',
    ],
    [
      ['"http://[fe80::1%25eth0]/"'],
      '{"hostname": "fe80::1%eth0", "path": "/", "raw_path": "/", "scheme": "http"}',
    ],
    [['"//host/p"'], '{"hostname": "host", "path": "/p", "raw_path": "/p"}'],
    [['"?q"'], '{"raw_query": "q"}'],
    [['"#f"'], '{"fragment": "f"}'],
    [['"*"'], '{"path": "*", "raw_path": "*"}'],
    [['"a:b:c"'], '{"scheme": "a"}'],
    [['":a"'], undefined],
    [['"1:2"'], undefined],
    [['"http://a b/"'], undefined],
    [['"http://a:x/"'], undefined],
    [['"http://a/%2F"'], '{"hostname": "a", "path": "//", "raw_path": "/%2F", "scheme": "http"}'],
    [['"http://a/%20"'], '{"hostname": "a", "path": "/ ", "raw_path": "/ ", "scheme": "http"}'],
    [['"http://[::1"'], undefined],
    [['"http://h/\\u0001"'], undefined],
    [['""'], '{}'],
  ])

  itGives('tell whether a text is a URI reference', 'uri.is_valid', [
    [['"http://a/b"'], 'true'],
    [['"a b"'], 'true'],
    [['"http://a b"'], 'false'],
    [['"%zz"'], 'false'],
    [['""'], 'false'],
    [['"/%ff"'], 'true'],
    [['1'], 'false'],
  ])

  itGives('parse UUIDs', 'uuid.parse', [
    [['"00000000-0000-4000-8000-000000000000"'], '{"variant": "RFC4122", "version": 4}'],
    [
      ['"{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}"'],
      '{"clocksequence": 10085, "macvariables": "global:unicast", "nodeid": "00-a0-c9-1e-6b-f6", "time": 854991792216875000, "variant": "RFC4122", "version": 1}',
    ],
    [
      ['"urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"'],
      '{"clocksequence": 10085, "macvariables": "global:unicast", "nodeid": "00-a0-c9-1e-6b-f6", "time": 854991792216875000, "variant": "RFC4122", "version": 1}',
    ],
    [
      ['"000003e8-cbb9-21ea-b201-00045a86c8a1"'],
      '{"clocksequence": 12801, "domain": "Group", "id": 1000, "macvariables": "global:unicast", "nodeid": "00-04-5a-86-c8-a1", "time": 1595380601761072800, "variant": "RFC4122", "version": 2}',
    ],
    [
      ['"F81D4FAE7DEC11D0A76500A0C91E6BF6"'],
      '{"clocksequence": 10085, "macvariables": "global:unicast", "nodeid": "00-a0-c9-1e-6b-f6", "time": 854991792216875000, "variant": "RFC4122", "version": 1}',
    ],
    [['"f81d4fae-7dec-11d0-a765"'], undefined],
    [['"zzzzzzzz-0000-4000-8000-000000000000"'], undefined],
    [['1'], undefined],
  ])
})
