import type { ClientBase } from 'pg'

/**
 * One step of the schema: forward only, never edited once released. Must work on PostgreSQL 14 to 18.
 *
 * `up` runs as the owner role, inside a transaction of its own.
 */
export interface Migration {
  /** 1, 2, 3, .. without gaps; the schema's version is the highest one applied. */
  readonly id: number
  /** kebab-case, as in the file's name. */
  readonly name: string
  up(client: Pick<ClientBase, 'query'>): Promise<void>
  /**
   * What the runtime role may do with what this migration made, as the middle of a GRANT: `select, insert on table
   * audit_events`. Given at every start, after all migrations, when the owner and the runtime role are different ones; so
   * a runtime role that is set up later gets them as well. What is not named here it may not do.
   */
  readonly grants: readonly string[]
}
