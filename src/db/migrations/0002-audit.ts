import type { Migration } from './migration.ts'

/**
 * `audit_events` has no DEFAULT partition: one that holds rows of a day keeps that day from being created. Days are made
 * by `audit_create_day`, which runs with the owner's rights, so the runtime role needs none of its own beyond
 * INSERT and SELECT.
 */
const TABLES = `
create table audit_events (
  id uuid not null,
  ts timestamptz(3) not null,
  writer uuid not null,
  seq bigint not null,
  leaf bytea,
  request_id text collate "C" not null,
  tenant text,
  principal_id text,
  principal_kind text,
  role text,
  roles text[],
  api_key_id text,
  client_ip inet,
  client_name text,
  client_version text,
  protocol_version text,
  session_hash text,
  http_method text,
  method text,
  server text,
  target_kind text,
  tool_name text,
  outcome text not null,
  status_code int not null,
  reason text,
  error_message text,
  latency_ms double precision not null,
  upstream_ms double precision,
  policy_revision text,
  request_json jsonb,
  response_json jsonb,
  decision jsonb not null,
  redaction jsonb,
  primary key (ts, id)
) partition by range (ts);

create index audit_events_tenant_ts on audit_events (tenant, ts);
create index audit_events_principal_ts on audit_events (principal_id, ts);
create index audit_events_request_id on audit_events (request_id);
-- Following the log: the order in which one writer stored its rows, whatever moment their calls began.
create index audit_events_writer_seq on audit_events (writer, seq);

-- Costs half the CPU of the default compression for a trace; servers built without it keep the default.
do $lz4$ begin
  alter table audit_events alter column decision set compression lz4;
  alter table audit_events alter column request_json set compression lz4;
  alter table audit_events alter column response_json set compression lz4;
exception when feature_not_supported then null;
end $lz4$;

create table policy_revisions (
  digest text not null,
  revision text not null,
  opa text not null,
  sources jsonb not null,
  dictionary jsonb not null,
  data_sha256 text not null,
  loaded_at timestamptz not null default now(),
  -- Sources that differ only in comments or layout give one module, and yet other line numbers.
  primary key (digest, revision)
);
`

/**
 * Default privileges of a shared database (`alter default privileges .. grant all on tables`) must not open these tables:
 * rights are those that the migration names, and a partition is reached through its parent only.
 */
const REVOKE_DEFAULTS = `
create function audit_revoke_defaults(target regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $body$
declare
  granted oid;
begin
  for granted in
    select distinct acl.grantee from pg_class c, aclexplode(c.relacl) acl
    where c.oid = target and acl.grantee <> c.relowner
  loop
    execute format('revoke all on table %s from %s', target,
      case when granted = 0 then 'public' else quote_ident(pg_get_userbyid(granted)) end);
  end loop;
end
$body$;
revoke all on function audit_revoke_defaults(regclass) from public;

select audit_revoke_defaults('audit_events'), audit_revoke_defaults('policy_revisions');
`

/**
 * Every name in the body is qualified and `search_path` is pinned, so neither a temporary table nor a schema of the
 * caller can stand in for ours. Idempotent, serialised, and limited to days near the database's own clock: a runtime role
 * gone bad cannot fill the catalogue.
 */
const CREATE_DAY = `
do $migration$ begin
execute format($define$
create function %1$I.audit_create_day(day date) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
  today constant date := (now() at time zone 'UTC')::date;
  part constant text := 'audit_events_' || to_char(day, 'YYYYMMDD');
begin
  if day is null or day < today - 400 or day > today + 400 then
    raise exception 'audit day %% is more than 400 days from the database clock', day using errcode = '22008';
  end if;
  if exists (select from pg_inherits where inhrelid = to_regclass(format('%%I.%%I', %1$L, part))) then return false; end if;
  perform pg_advisory_xact_lock(7238512046114190);
  if exists (select from pg_inherits where inhrelid = to_regclass(format('%%I.%%I', %1$L, part))) then return false; end if;
  execute format('create table %%1$I.%%2$I (like %%1$I.audit_events including all)', %1$L, part);
  perform %1$I.audit_revoke_defaults(to_regclass(format('%%I.%%I', %1$L, part)));
  -- ATTACH takes a weaker lock on the parent than PARTITION OF: writers of other days go on meanwhile.
  execute format('alter table %%1$I.audit_events attach partition %%1$I.%%2$I for values from (%%3$L) to (%%4$L)', %1$L, part,
    to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
  return true;
end
$body$
$define$, current_schema());
end $migration$;

revoke all on function audit_create_day(date) from public;
`

/**
 * Audit rows, partitioned by day, and the policies they refer to. The runtime role may add and read rows, never change or
 * remove them.
 */
export const auditMigration: Migration = {
  id: 2,
  name: 'audit',
  async up(client) {
    await client.query(TABLES + REVOKE_DEFAULTS + CREATE_DAY)
  },
  grants: [
    'select, insert on table audit_events',
    'select, insert on table policy_revisions',
    'execute on function audit_create_day(date)',
  ],
}
