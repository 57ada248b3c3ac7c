/** What the gateways of the benchmarks have in common: configuration, environment, and the key of their callers. */
import type { createKey } from '../../src/auth/key-store.ts'
import type { TestDatabase } from '../../test/support/postgres.ts'

/** The part of a configuration that is the same in all of them; needs {@link benchEnv}. */
export const BENCH_SETTINGS = {
  listen: '127.0.0.1:0',
  admin: { listen: 'off' },
  policies: './policies',
  database: { url: '${BENCH_URL}', migrate_url: '${BENCH_MIGRATE_URL}' },
  secret: '${GATEWAY_BENCH_SECRET}',
}

/** The key that calls. */
export const BENCH_KEY: Parameters<typeof createKey>[1] = {
  ...{ name: 'bench', kind: 'service', roles: ['developer'], tenant: 'acme' },
  ...{ teams: [], scopes: [], claims: {}, expiresAt: null },
}

/** The variables that {@link BENCH_SETTINGS} names. */
export function benchEnv(database: TestDatabase): Record<string, string> {
  return {
    GATEWAY_BENCH_SECRET: 'Vn5sQ2xk8Rz1Lw7Yc3Tb9Jh4Gd6Fm0PaSeUiOqXvKtB=',
    BENCH_URL: database.url,
    BENCH_MIGRATE_URL: database.migrateUrl,
  }
}
