import { describe } from 'mocha'
import { itGives } from './gives.ts'

describe('hashes', () => {
  itGives('hash with MD5', 'crypto.md5', [
    [['"lorem ipsum"'], '"80a751fde577028640c419000e33eba6"'],
    [['"é"'], '"66ddcd97cfdeabb2f6fb8a999b4bc76f"'],
    [['1'], undefined],
  ])

  itGives('hash with SHA-1', 'crypto.sha1', [
    [['"lorem ipsum"'], '"bfb7759a67daeb65410490b4d98bb9da7d1ea2ce"'],
  ])

  itGives('hash with SHA-256', 'crypto.sha256', [
    [['"lorem ipsum"'], '"5e2bf57d3f40c4b6df69daf1936cb766f832374b4fc0259a7cbff06e2f70f269"'],
    [['""'], '"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"'],
  ])

  itGives('authenticate with HMAC-MD5', 'crypto.hmac.md5', [
    [['"foo"', '"bar"'], '"31b6db9e5eb4addb42f1a6ca07367adc"'],
  ])

  itGives('authenticate with HMAC-SHA-1', 'crypto.hmac.sha1', [
    [['"foo"', '"bar"'], '"85d155c55ed286a300bd1cf124de08d87e914f3a"'],
  ])

  itGives('authenticate with HMAC-SHA-256', 'crypto.hmac.sha256', [
    [['"foo"', '"bar"'], '"147933218aaabc0b8b10a2b3a5c34684c8d94341bcf10a4736dc7270f7741851"'],
    [['"é"', '""'], '"e2b36c14c961bddcba253e6e071cd6835731aaa01bcee5e6bbb33fe9dea253d7"'],
  ])

  itGives('authenticate with HMAC-SHA-512', 'crypto.hmac.sha512', [
    [
      ['"foo"', '"bar"'],
      '"24257d7210582a65c731ec55159c8184cc24c02489453e58587f71f44c23a2d61b4b72154a89d17b2d49448a8452ea066f4fc56a2bcead45c088572ffccdb3d8"',
    ],
  ])

  itGives('compare authentication codes', 'crypto.hmac.equal', [
    [['"ab"', '"ab"'], 'true'],
    [['"ab"', '"abc"'], 'false'],
    [['"ab"', '1'], undefined],
  ])
})
