/** What `gateway help P101` says: a page for each kind of message. The examples are whole policies folders, and tests run them. */

/** A policies folder: text by file. */
export type ExampleFolder = Readonly<Record<string, string>>

/** The page of one kind of message. */
export interface MessagePage {
  /** What is wrong, in general. */
  readonly what: string
  /** Why it is not let through, or worth a warning. */
  readonly why: string
  /** A folder that gets this message and no other; null when no policy can cause it. */
  readonly wrong: ExampleFolder | null
  /** The same, mended: it gets no message at all. */
  readonly right: ExampleFolder | null
}

/** A folder with rules in package `gateway.authz`. */
export function authzFolder(rules: string): ExampleFolder {
  return { 'authz.rego': `package gateway.authz\n\n${rules}` }
}

/** A folder with one rule that allows, and a test table. */
export function tableFolder(table: string): ExampleFolder {
  return {
    'authz.rego':
      'package gateway.authz\n\nallow contains "developers" if "developer" in input.principal.roles\n',
    'cases/first.yaml': table,
  }
}
