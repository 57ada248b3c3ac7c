import { describe } from 'mocha'
import { itGives } from './gives.ts'

describe('semantic versions', () => {
  itGives('tell whether a text is one', 'semver.is_valid', [
    [['"1.2.3"'], 'true'],
    [['"v1.0.0-rc.1+build"'], 'true'],
    [['"1.2"'], 'false'],
    [['"01.2.3"'], 'false'],
    [['"1.2.3-01"'], 'false'],
    [['"1.2.3-"'], 'false'],
    [['"1.2.3+a..b"'], 'false'],
    [['"1.2.9223372036854775808"'], 'false'],
    [['1'], 'false'],
  ])

  itGives('compare by precedence', 'semver.compare', [
    [['"1.0.0"', '"1.0.0-alpha"'], '1'],
    [['"1.0.0-alpha"', '"1.0.0-alpha.1"'], '-1'],
    [['"1.0.0-alpha.1"', '"1.0.0-alpha.beta"'], '-1'],
    [['"1.0.0-beta.2"', '"1.0.0-beta.11"'], '-1'],
    [['"1.10.0"', '"1.9.9"'], '1'],
    [['"1.0.0+a"', '"1.0.0+b"'], '0'],
    [['"v2.0.0"', '"1.0.0"'], '1'],
    [['"1.0"', '"1.0.0"'], undefined],
  ])
})
