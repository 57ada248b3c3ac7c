/**
 * A process that uses an embedded server: `embedded-user.ts HOME`. Prints one JSON line when it is ready and one when it
 * has let go; lets go when its stdin ends. Tests kill it instead.
 */
import pg from 'pg'
import { startTestServer } from './postgres.ts'

const steps: string[] = []
const server = await startTestServer({
  dataHome: process.argv[2] ?? '',
  onProgress: (text) => steps.push(text),
})
const client = new pg.Client({ ...server.owner })
client.on('error', () => undefined)
await client.connect()
const { rows } = await client.query('select system_identifier::text as id from pg_control_system()')
await client.end()
say({ isAdopted: server.isAdopted, cluster: rows[0].id, steps })
process.stdin.resume()
process.stdin.once('end', () => void letGo())

async function letGo(): Promise<void> {
  await server.stop()
  say({ stopped: true })
  process.exit(0)
}

function say(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`)
}
