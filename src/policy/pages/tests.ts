/** Pages of the errors in tests: tables (P3..) and rules `test_..` (P4..). */
import type { MessagePage } from './page.ts'
import { authzFolder, tableFolder } from './page.ts'

const TABLE = `fixtures:
  principals: { ada: { roles: [developer] } }
  tools: { search: { server: desk } }
cases:
  - name: developers may search
    principal: ada
    tool: search
    expect: { allow: true }
`

const RULE = 'allow contains "developers" if "developer" in input.principal.roles\n'

/** By id. */
export const TEST_PAGES: Readonly<Record<string, MessagePage>> = {
  P301: {
    what: 'A test table that is not YAML, or that could be read in two ways.',
    why: 'A test that says something else than it seems to is worse than none. Each name stands once in a mapping, and indentation is of spaces.',
    wrong: tableFolder(TABLE.replace('{ server: desk }', '{ server: desk')),
    right: tableFolder(TABLE),
  },
  P302: {
    what: 'A table has no key of this name.',
    why: 'What nobody reads would not be tested. The keys stand in schemas/policy-case.schema.json, which editors show while you type.',
    wrong: tableFolder(
      TABLE.replace('    tool:', '    tol:').replace('principal: ada', 'principal: ada\n    tool: search'),
    ),
    right: tableFolder(TABLE),
  },
  P303: {
    what: 'A value that a table cannot have at this place.',
    why: 'The test could not be run as it is meant.',
    wrong: tableFolder(TABLE.replace('allow: true', 'allow: "yes"')),
    right: tableFolder(TABLE),
  },
  P304: {
    what: 'A principal, tool or server that no fixtures describe.',
    why: 'The policy would be asked about nobody. Fixtures stand in the same table, or for a whole folder in cases/fixtures.yaml.',
    wrong: tableFolder(TABLE.replace('principal: ada', 'principal: ida')),
    right: tableFolder(TABLE),
  },
  P401: {
    what: 'A test file that changes the policy, or hides a test.',
    why: 'The tests would be of another policy than the one that serves, or a failing test would stay unseen behind one of the same name.',
    wrong: {
      ...authzFolder(RULE),
      'authz_test.rego':
        'package gateway.authz\n\nallow contains "everybody" if input.principal.id\n\ntest_anybody if "everybody" in allow with input.principal.id as "ada"\n',
    },
    right: {
      ...authzFolder(RULE),
      'authz_test.rego':
        'package authz_test\n\nimport data.gateway.authz\n\ntest_developers if "developers" in authz.allow with input.principal.roles as ["developer"]\n',
    },
  },
}
