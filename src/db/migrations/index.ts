import { keysMigration } from './0001-keys.ts'
import { auditMigration } from './0002-audit.ts'
import { limitsMigration } from './0003-limits.ts'
import { killSwitchesMigration } from './0004-kill-switches.ts'
import { auditChainMigration } from './0005-audit-chain.ts'
import { auditStorageMigration } from './0006-audit-storage.ts'
import { policyBundlesMigration } from './0007-policy-bundles.ts'
import type { Migration } from './migration.ts'

/** All steps of the schema, oldest first. A new one goes to the end; released ones are never edited. */
export const MIGRATIONS: readonly Migration[] = [
  keysMigration,
  auditMigration,
  limitsMigration,
  killSwitchesMigration,
  auditChainMigration,
  auditStorageMigration,
  policyBundlesMigration,
]
