import type { Migration } from './migration.ts'

/**
 * API keys, and the change feed by which every gateway on this database learns of changes within seconds.
 *
 * `record_change` is the only way into `changes`. It takes a lock that is held until the transaction has committed, so
 * sequence numbers become visible in order: a reader that has seen 7 will never meet a late 6.
 */
export const keysMigration: Migration = {
  id: 1,
  name: 'keys',
  async up(client) {
    await client.query(`
      create table api_keys (
        id              text primary key check (id ~ '^[a-z0-9]{12}$'),
        name            text check (length(name) between 1 and 128),
        kind            text not null check (kind in ('user', 'service', 'agent')),
        roles           text[] not null default '{}',
        tenant          text,
        teams           text[] not null default '{}',
        scopes          text[] not null default '{}',
        claims          jsonb not null default '{}' check (jsonb_typeof(claims) = 'object'),
        secret_sha256   bytea not null check (length(secret_sha256) = 32),
        previous_sha256 bytea check (length(previous_sha256) = 32),
        previous_until  timestamptz,
        created_at      timestamptz not null default now(),
        rotated_at      timestamptz,
        expires_at      timestamptz,
        revoked_at      timestamptz,
        check ((previous_sha256 is null) = (previous_until is null))
      );
      comment on column api_keys.secret_sha256 is 'SHA-256 of the whole key text; the key itself is stored nowhere';
      comment on column api_keys.previous_sha256 is 'secret before the last rotation, accepted until previous_until';

      create table changes (
        seq     bigint generated always as identity primary key,
        topic   text not null,
        subject text not null,
        at      timestamptz not null default now()
      );
      create index changes_at on changes (at);

      create table gateway_processes (
        id          text primary key,
        name        text not null,
        started_at  timestamptz not null default now(),
        seen_at     timestamptz not null default now(),
        applied_seq bigint not null
      );
      comment on table gateway_processes is 'running gateways and the last change each has applied';

      create function record_change(topic text, subject text) returns bigint language plpgsql as $$
      declare
        new_seq bigint;
      begin
        perform pg_advisory_xact_lock(7235104427113201);
        insert into changes (topic, subject) values (record_change.topic, record_change.subject)
          returning seq into new_seq;
        perform pg_notify('gateway_changes', '');
        return new_seq;
      end
      $$;
      revoke all on function record_change(text, text) from public;
    `)
  },
  grants: [
    'select, insert, update on table api_keys',
    'select, insert, delete on table changes',
    'select, insert, update, delete on table gateway_processes',
    'execute on function record_change(text, text)',
  ],
}
