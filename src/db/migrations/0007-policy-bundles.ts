import type { Migration } from './migration.ts'

/**
 * Policies published through the database, and which signed ones were ever put in force. The runtime role adds to both and
 * neither changes nor removes anything, so it can neither rewrite the history nor lower the sequence that was accepted.
 *
 * `published` is the number of the announced change: the newest row is what gateways try first. What a row says beside the
 * bundle is for lists; gateways believe the bundle alone.
 */
export const policyBundlesMigration: Migration = {
  id: 7,
  name: 'policy-bundles',
  async up(client) {
    await client.query(`
      create table policy_bundles (
        published   bigint primary key,
        sequence    bigint not null unique check (sequence >= 0),
        revision    text not null check (length(revision) between 1 and 64),
        digest      text not null check (length(digest) between 1 and 128),
        is_signed   boolean not null,
        rollback_of bigint,
        bundle      bytea not null check (octet_length(bundle) between 1 and 33554432),
        at          timestamptz not null default now(),
        actor       text not null check (length(actor) between 1 and 256),
        db_user     text not null default session_user
      );
      comment on column policy_bundles.digest is 'sha256 of the manifest inside';
      comment on column policy_bundles.rollback_of is 'the sequence of the release whose content this is';

      create table policy_accepted (
        sequence    bigint primary key check (sequence > 0),
        digest      text not null,
        revision    text not null,
        at          timestamptz not null default now()
      );
      comment on table policy_accepted is 'signed bundles that were put in force; nothing older ever is again';

      alter table gateway_processes add column policy_sequence bigint;

      alter table policy_revisions add column data_json text;
      comment on column policy_revisions.data_json is 'the base documents; null = too large to keep, or stored by an older version';

      -- Default privileges of a shared database must not open these tables.
      select audit_revoke_defaults('policy_bundles'), audit_revoke_defaults('policy_accepted');
    `)
  },
  grants: ['select, insert on table policy_bundles', 'select, insert on table policy_accepted'],
}
