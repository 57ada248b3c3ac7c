import type { Migration } from './migration.ts'

/**
 * The chain over audit rows and what is signed about it. The leaf itself has stood in `audit_events` from the beginning;
 * rows without one are from before the chain.
 *
 * The runtime role adds and reads. Erasing changes rows, so that is the owner's; its record can be read by all who can
 * read the rows.
 */
export const auditChainMigration: Migration = {
  id: 5,
  name: 'audit-chain',
  async up(client) {
    await client.query(`
      alter table audit_events add column salt bytea;
      comment on column audit_events.leaf is 'SHA-256 of the leaf before it and of this row; see SECURITY.md';
      comment on column audit_events.salt is 'enters the digests of the JSON columns; erased with them';

      create table audit_keys (
        key_id     text primary key check (key_id ~ '^[0-9a-f]{16}$'),
        public_key text not null,
        added_at   timestamptz(3) not null default now()
      );

      create table audit_checkpoints (
        writer    uuid not null,
        seq       bigint not null,
        leaf      bytea not null,
        rows      bigint not null,
        ts        timestamptz(3) not null,
        key_id    text not null,
        signature text not null,
        primary key (writer, seq)
      );
      comment on column audit_checkpoints.rows is 'rows covered by this checkpoint and by no earlier one of the writer';

      create table audit_erasures (
        id        uuid primary key,
        writer    uuid not null,
        seq       bigint not null,
        erased_at timestamptz(3) not null,
        actor     text not null,
        db_user   text not null default session_user,
        reason    text not null,
        before    text[],
        after     text[] not null,
        key_id    text not null,
        signature text not null
      );
      create index audit_erasures_writer_seq on audit_erasures (writer, seq);
      comment on column audit_erasures.before is 'digests of request_json, response_json, decision, redaction as the leaf covers them';

      create table audit_retired (
        writer         uuid not null,
        from_seq       bigint not null,
        to_seq         bigint not null,
        rows           bigint not null,
        last_leaf      bytea,
        day            date not null,
        retired_at     timestamptz(3) not null,
        archive        text,
        archive_sha256 bytea,
        key_id         text,
        signature      text,
        primary key (writer, from_seq),
        check (from_seq <= to_seq),
        check ((key_id is null) = (signature is null))
      );

      select audit_revoke_defaults('audit_keys'), audit_revoke_defaults('audit_checkpoints'),
        audit_revoke_defaults('audit_erasures'), audit_revoke_defaults('audit_retired');
    `)
  },
  grants: [
    'select, insert on table audit_keys',
    'select, insert on table audit_checkpoints',
    'select on table audit_erasures',
    'select, insert on table audit_retired',
  ],
}
