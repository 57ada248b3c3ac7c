/**
 * `npm run conformance`: the public MCP conformance suite against a server on the official SDK, directly and through a
 * gateway with its whole pipeline on and a key required. Exit code 1 unless every scenario of every revision comes out the
 * same both ways, with the totals that are known.
 */

import { startConformanceServer } from '../test/conformance/server.ts'
import type { Found, Revision } from '../test/conformance/suite.ts'
import { differences, ensureSuite, REVISIONS, runSuite } from '../test/conformance/suite.ts'
import { startTestGateway } from '../test/support/gateway.ts'
import { stopSharedServer } from '../test/support/postgres.ts'

/**
 * Checks that pass and that do not. What does not are the scenarios of the tasks extension, which the SDK's server does not
 * have, and which the suite does not score.
 */
const EXPECTED: Readonly<Record<Revision, readonly [passed: number, failed: number]>> = {
  '2025-03-26': [3, 0],
  '2025-06-18': [56, 0],
  '2025-11-25': [84, 0],
  '2026-07-28': [165, 29],
}

async function main(): Promise<void> {
  await ensureSuite()
  const upstream = await startConformanceServer()
  const gateway = await startTestGateway({
    upstreams: { fixture: upstream.url },
    // As the scenario about DNS rebinding wants it: pages of this machine may call, others may not.
    settings: { allowed_origins: ['http://127.0.0.1:*'] },
  })
  try {
    const key = await gateway.key()
    let troubles = 0
    for (const revision of Object.keys(REVISIONS) as Revision[]) {
      const direct = await runSuite(upstream.url, revision)
      const through = await runSuite(`${gateway.url}/mcp/fixture`, revision, key)
      troubles += show(revision, direct, through)
    }
    const outcomes = new Map<string, number>()
    for (const row of await gateway.rows()) outcomes.set(row.outcome, (outcomes.get(row.outcome) ?? 0) + 1)
    console.log(`audit rows: ${[...outcomes].map(([outcome, count]) => `${count} ${outcome}`).join(', ')}`)
    if (troubles > 0) process.exitCode = 1
  } finally {
    await gateway.close()
    await upstream.close()
    await stopSharedServer()
  }
}

/** Prints a line of totals and one for each trouble; returns how many there are. */
function show(revision: Revision, direct: Found, through: Found): number {
  const [passed, failed] = EXPECTED[revision]
  const troubles = differences(direct, through)
  for (const [name, found] of Object.entries({ direct, gateway: through })) {
    if (found.passed !== passed || found.failed !== failed)
      troubles.push(
        `${name}: ${found.passed} passed, ${found.failed} failed; expected ${passed} and ${failed}`,
      )
    if (found.exitCode !== 0) troubles.push(`${name}: the suite ended with ${found.exitCode}`)
  }
  const totals = (found: Found): string => `${found.passed} passed, ${found.failed} failed`
  console.log(`${revision}: direct ${totals(direct)}; through the gateway ${totals(through)}`)
  for (const trouble of troubles) console.log(`  ${trouble}`)
  return troubles.length
}

await main()
