/** Statements over the whole log take longer than those a call waits for. */
import type { Pool, PoolClient } from 'pg'

const MINUTES_10 = 600_000

/** Runs `use` on a connection whose statements may take ten minutes each. */
export async function withPatience<T>(
  pool: Pool,
  use: (db: Pick<PoolClient, 'query'>) => Promise<T>,
): Promise<T> {
  const client = await pool.connect()
  let fault: unknown = null
  try {
    await client.query(`set statement_timeout = ${MINUTES_10}`)
    return await use(client)
  } catch (error) {
    fault = error
    throw error
  } finally {
    if (fault === null) await client.query('reset statement_timeout').catch((error) => (fault = error))
    client.release(fault !== null)
  }
}
