/** `gateway demo-keys`, used by `npm start`: fresh keys for a day, and an end to those of the last start. */

import type { KeySettings } from '../auth/key-settings.ts'
import { createKey, revokeKeysNamed } from '../auth/key-store.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import { withDatabase } from './context.ts'
import type { Streams } from './output.ts'

const DAY_MS = 24 * 3_600_000

/** Principals of the demo. What they may do stands in policies/. */
const PRINCIPALS: readonly Omit<KeySettings, 'expiresAt'>[] = [
  {
    name: 'demo-admin',
    kind: 'user',
    roles: ['admin'],
    tenant: 'acme',
    teams: ['platform'],
    scopes: ['gateway:admin'],
    claims: { mfa: true },
  },
  {
    name: 'demo-developer',
    kind: 'user',
    roles: ['developer'],
    tenant: 'acme',
    teams: ['support'],
    scopes: [],
    claims: { mfa: false },
  },
]

/** Adds the hidden command `demo-keys`. */
export const demoCommands: CommandGroup = (parser, streams) =>
  parser.command(
    'demo-keys',
    false,
    (command) => command,
    (args) => makeDemoKeys(args, streams),
  )

/** Prints `[{name, id, key, expires_at}]` whatever the output options are: only a program asks. */
async function makeDemoKeys(args: CommandArgs, streams?: Streams): Promise<void> {
  await withDatabase(
    args,
    async ({ out, pools }) => {
      const nowMs = Date.now()
      const made = []
      for (const principal of PRINCIPALS) {
        if (principal.name !== null) await revokeKeysNamed(pools.general, principal.name)
        const expiresAt = new Date(nowMs + DAY_MS)
        const { key, text } = await createKey(pools.general, { ...principal, expiresAt }, nowMs)
        made.push({ name: key.name, id: key.id, key: text, expires_at: expiresAt.toISOString() })
      }
      out.json(made)
    },
    streams,
  )
}
