/** A gateway's upstream room in a process of its own, to be killed: `SERVER PID_FILE FORK_FILE`. Says `ready`. */
import { createUpstreams } from '../../src/upstream/room.ts'
import { settingsOf } from '../upstream/call-fixture.ts'

const [, , server = '', pidFile = '', forkFile = ''] = process.argv
const log = { info: () => undefined, warn: () => undefined }
const stdio = {
  command: [process.execPath, server, '--ignore-term', '--fork'],
  env: { PID_FILE: pidFile, FORK_FILE: forkFile },
  secrets: [],
  cwd: '/',
  sessions: 'shared',
  maxChildren: 1,
  sessionIdleMs: 60_000,
  startTimeoutMs: 10_000,
} as const
const upstreams = createUpstreams({
  upstreams: { up: settingsOf({ url: null, stdio }) },
  version: '1',
  clock: { nowMs: Date.now, monotonicMs: () => performance.now() },
  random: Math.random,
  log,
})
await upstreams.tools('up')
process.stdout.write('ready\n')
