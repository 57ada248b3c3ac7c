/**
 * What a row takes on disk by the size of its trace: readable and compact, compressed by pglz and lz4, and what the index on
 * denials costs. One PostgreSQL, one run. About 30 s: `node --import=tsx/esm scripts/bench/audit-bytes.ts [rows]`.
 */
import { randomUUID } from 'node:crypto'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { createTraceCoder } from '../../src/audit/compact-trace.ts'
import { startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'

const ROWS = Number(process.argv[2] ?? 2000)
const EVENTS = [0, 10, 40, 160]
const DICTIONARY = makeDictionary(400)
const code = createTraceCoder(DICTIONARY)

const folder = await mkdtemp('/tmp/gateway-bench-')
// Run by root, the server is another user's and has to get there.
await chmod(folder, 0o711)
const server = await startEmbeddedPostgres({ dataHome: join(folder, 'pg'), path: process.env['PATH'] ?? '' })
await migrate({ owner: server.owner, runtime: server.runtime })
const client = new pg.Client(server.owner)
await client.connect()
const { rows: version } = await client.query<{ server_version: string }>('show server_version')
console.log(`PostgreSQL ${version[0]?.server_version}, ${ROWS} rows each, indexes included`)
console.log('events  trace      compression  JSON bytes  disk bytes/row  server us/row')
for (const events of EVENTS) {
  for (const encoding of ['readable', 'compact'] as const) {
    for (const compression of ['pglz', 'lz4'] as const) await measure(events, encoding, compression)
  }
}
await measureExpansion()
await client.end()
await server.stop()
await rm(folder, { recursive: true, force: true })

async function measure(
  events: number,
  encoding: 'readable' | 'compact',
  compression: 'pglz' | 'lz4',
): Promise<void> {
  await client.query('drop table if exists bench')
  await client.query('create table bench (like audit_events including all)')
  try {
    for (const column of ['decision', 'request_json', 'response_json'])
      await client.query(`alter table bench alter column ${column} set compression ${compression}`)
  } catch {
    console.log(`${String(events).padEnd(7)} ${encoding.padEnd(10)} ${compression}: not in this server`)
    return
  }
  let bytes = 0
  let spentMs = 0
  for (let done = 0; done < ROWS; done += 200) {
    const records = Array.from({ length: 200 }, (_, index) => makeRow(events, encoding, done + index))
    for (const record of records) bytes += record.length
    const started = performance.now()
    await client.query(
      'insert into bench select (jsonb_populate_record(null::bench, one)).* from jsonb_array_elements($1::jsonb) as one',
      [`[${records.join(',')}]`],
    )
    spentMs += performance.now() - started
  }
  const { rows } = await client.query<{ size: number }>(
    `select pg_total_relation_size('bench')::float8 as size`,
  )
  const disk = Math.round((rows[0]?.size ?? 0) / ROWS)
  console.log(
    `${String(events).padEnd(7)} ${encoding.padEnd(10)} ${compression.padEnd(12)} ${String(Math.round(bytes / ROWS)).padEnd(11)} ${String(disk).padEnd(15)} ${Math.round((spentMs * 1000) / ROWS)}`,
  )
}

/** Reading 200 compact rows of 40 events as readable ones. */
async function measureExpansion(): Promise<void> {
  await client.query(
    `insert into policy_revisions (digest, revision, opa, sources, dictionary, data_sha256) values ('d', 'r', '1', '{}', $1, '')`,
    [DICTIONARY],
  )
  const rows = Array.from({ length: 200 }, (_, at) => makeRow(40, 'compact', at))
  const started = performance.now()
  await client.query(`select audit_decision(one -> 'decision') from jsonb_array_elements($1::jsonb) as one`, [
    `[${rows.join(',')}]`,
  ])
  console.log(`expanding a compact trace of 40 events: ${Math.round((performance.now() - started) * 5)} us`)
}

function makeRow(events: number, encoding: 'readable' | 'compact', number: number): string {
  const readable = makeTrace(events, number)
  const trace = encoding === 'compact' ? code(readable) : readable
  const id = randomUUID()
  const plain = {
    ...{ id, ts: new Date(number), writer: '0190a000-0000-7000-8000-000000000001', seq: number },
    ...{
      request_id: id,
      tenant: `t${number % 5}`,
      principal_id: `user-${number % 1000}`,
      outcome: 'denied_authz',
    },
    ...{
      principal_kind: 'user',
      roles: ['developer'],
      status_code: 403,
      latency_ms: number / 7,
      method: 'tools/call',
    },
    ...{ server: 'github', target_kind: 'tool', tool_name: `tool_${number % 50}`, policy_revision: 'r' },
    request_json: {
      jsonrpc: '2.0',
      id: number,
      method: 'tools/call',
      params: { name: 'x', arguments: { q: id } },
    },
  }
  const authz = `{"allow":false,"denied_by":["reason-${number % 9}"],"policy":{"digest":"d","revision":"r"},"trace":${trace}}`
  return `${JSON.stringify(plain).slice(0, -1)},"decision":{"stage":"authz","outcome":"denied_authz","authz":${authz}}}`
}

/** Rules of four expressions, of which the last fails. An event is a rule or an expression, about 160 bytes. */
function makeTrace(events: number, number: number): string {
  const rules = Array.from({ length: events / 5 }, (_, index) => {
    const first = (index * 5 + number * 5) % 400
    const [rule] = DICTIONARY.rules.filter(({ id }) => id === first)
    const steps = [1, 2, 3, 4].map((offset) => {
      const probe = DICTIONARY.exprs.find(({ id }) => id === first + offset)
      const step = { at: `${probe?.file}:${probe?.row}`, expr: probe?.text, ok: offset < 4 }
      return offset < 4
        ? { ...step, vars: offset === 2 ? { name: `v${number}` } : {} }
        : { ...step, vars: {}, reads: { [probe?.reads[0]?.text ?? '']: `user-${number}` } }
    })
    return {
      rule: rule?.path,
      at: `${rule?.file}:${rule?.row}`,
      title: rule?.title,
      outcome: 'undefined',
      steps,
    }
  })
  return JSON.stringify({ v: 1, truncated: false, dropped: 0, rules })
}

function makeDictionary(size: number) {
  const file = 'authz/tools.rego'
  const ids = Array.from({ length: size }, (_, id) => id)
  return {
    rules: ids
      .filter((id) => id % 5 === 0)
      .map((id) => ({
        ...{ id, file, row: id, path: 'data.gateway.authz.deny', text: `deny contains "reason-${id}"` },
        title: `What this rule number ${id} is there for`,
      })),
    exprs: ids
      .filter((id) => id % 5 !== 0)
      .map((id) => ({
        ...{
          id,
          file,
          row: id,
          text: `input.principal.claims.level_${id} == input.server.labels.level_${id}`,
        },
        reads: [{ text: `input.principal.claims.level_${id}` }],
      })),
  }
}
