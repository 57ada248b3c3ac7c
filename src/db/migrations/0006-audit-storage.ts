import type { Migration } from './migration.ts'

/**
 * A trace may be stored compactly: `{"v", "truncated", "dropped", "compact": [rule, ..]}`, where what the policy itself
 * wrote (names, places, source texts) is replaced by ids of the trace dictionary in `policy_revisions`. Written by
 * src/audit/compact-trace.ts, which describes the form; expanded here and nowhere else.
 *
 * `trace_words` holds, by id, what an id stands for: `rule` and `step` (the members it replaces) and `reads` (names).
 */
const WORDS = `
create function %1$I.audit_trace_words(dictionary jsonb) returns jsonb
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $body$
  with probes as (
    select (one ->> 'id')::int as id, one, (one ->> 'file') || ':' || (one ->> 'row') as place
    from (select jsonb_path_query(dictionary, '$.rules[*]') union all select jsonb_path_query(dictionary, '$.exprs[*]')) as all_of (one)
  )
  select jsonb_agg(case when id is not null then jsonb_build_object(
      'rule', jsonb_build_object('rule', one -> 'path', 'at', place)
        || case jsonb_typeof(one -> 'title') when 'string' then jsonb_build_object('title', one -> 'title') else '{}' end,
      'step', jsonb_build_object('at', place, 'expr', one -> 'text'),
      'reads', jsonb_path_query_array(one, '$.reads[*].text')) end order by number)
  from generate_series(0, (select max(id) from probes)) as number left join probes on id = number
$body$;
`

/** A plan made for one call would copy all words into itself. */
const EXPAND = `
create function %1$I.audit_expand_rules(compact jsonb, words jsonb) returns jsonb
language plpgsql immutable parallel safe set plan_cache_mode = force_generic_plan as $body$
begin
  return (select coalesce(jsonb_agg(
      case jsonb_typeof(rule -> 0) when 'number' then words -> (rule ->> 0)::int -> 'rule' else rule -> 0 end
      || case rule ->> 1 when '0' then '{"outcome": "undefined"}' when '1' then '{"outcome": "defined"}'
           when '2' then '{"outcome": "aborted"}' else '{}'::jsonb end
      || case jsonb_typeof(rule -> 2) when 'array'
           then jsonb_build_object('steps', %1$I.audit_expand_steps(rule -> 2, words)) else '{}' end
      || coalesce(rule -> 3, '{}')
      || case when rule -> 3 ? 'rules'
           then jsonb_build_object('rules', %1$I.audit_expand_rules(rule #> '{3,rules}', words)) else '{}' end
    order by at), '[]')
  from jsonb_array_elements(compact) with ordinality as list (rule, at));
end
$body$;

create function %1$I.audit_expand_steps(compact jsonb, words jsonb) returns jsonb
language plpgsql immutable parallel safe set plan_cache_mode = force_generic_plan as $body$
begin
  return (select coalesce(jsonb_agg(
      case jsonb_typeof(step -> 0) when 'number' then word -> 'step' else step -> 0 end
      || case step ->> 1 when '1' then '{"ok": true}' when '0' then '{"ok": false}' else '{}'::jsonb end
      || case when more ? 'vars' then '{}' else '{"vars": {}}'::jsonb end
      || case when more -> 'vars' = 'null' then more - 'vars' else more end
      || case jsonb_typeof(more -> 'reads') when 'array' then jsonb_build_object('reads', (
           select coalesce(jsonb_object_agg(
             case jsonb_typeof(more #> array['reads', (2 * pair)::text]) when 'number'
               then coalesce(word -> 'reads' ->> (more #>> array['reads', (2 * pair)::text])::int, '?')
               else more #>> array['reads', (2 * pair)::text] end,
             more #> array['reads', (2 * pair + 1)::text]), '{}')
           from generate_series(0, jsonb_array_length(more -> 'reads') / 2 - 1) as pair)) else '{}' end
      || case when more ? 'missing' then jsonb_build_object('missing', (
           select coalesce(jsonb_agg(
             case jsonb_typeof(name) when 'number' then word -> 'reads' -> (name #>> '{}')::int else name end
             order by name_at), '[]')
           from jsonb_array_elements(more -> 'missing') with ordinality as names (name, name_at))) else '{}' end
      || case when more ? 'steps'
           then jsonb_build_object('steps', %1$I.audit_expand_steps(more -> 'steps', words)) else '{}' end
      || case when more ? 'rules'
           then jsonb_build_object('rules', %1$I.audit_expand_rules(more -> 'rules', words)) else '{}' end
    order by at), '[]')
  from jsonb_array_elements(compact) with ordinality as list (step, at)
  cross join lateral (select coalesce(step -> 2, '{}') as more,
    case jsonb_typeof(step -> 0) when 'number' then words -> (step ->> 0)::int end as word) as known);
end
$body$;

create function %1$I.audit_trace(decision jsonb) returns jsonb
language plpgsql stable parallel safe as $body$
declare
  trace constant jsonb := decision #> '{authz,trace}';
  words jsonb;
begin
  if trace is null or not trace ? 'compact' then return trace; end if;
  -- With nothing added the value is in memory as it is; without it every single look-up would decompress the stored one.
  select known.trace_words || '[]' into words from %1$I.policy_revisions known
    where known.digest = decision #>> '{authz,policy,digest}' and known.revision = decision #>> '{authz,policy,revision}';
  -- Without its policy the row keeps what it has; names of rules cannot be made up.
  if words is null then return trace; end if;
  return (trace - 'compact') || jsonb_build_object('rules', %1$I.audit_expand_rules(trace -> 'compact', words));
end
$body$;
comment on function %1$I.audit_trace(jsonb) is 'the trace of a decision in its readable form, however it is stored';

create function %1$I.audit_decision(decision jsonb) returns jsonb
language plpgsql stable parallel safe as $body$
begin
  if not coalesce(decision #> '{authz,trace}' ? 'compact', false) then return decision; end if;
  return jsonb_set(decision, '{authz,trace}', %1$I.audit_trace(decision));
end
$body$;
comment on function %1$I.audit_decision(jsonb) is 'a decision with its trace in the readable form, however it is stored';
`

/**
 * As 0002 made it, and: a server that has learnt lz4 since the table was made uses it for new days, one that has lost it
 * (a dump restored elsewhere) can still make days.
 */
const CREATE_DAY = `
create or replace function %1$I.audit_create_day(day date) returns boolean
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
  execute format('create table %%1$I.%%2$I (like %%1$I.audit_events including all excluding compression)', %1$L, part);
  perform %1$I.audit_compress(to_regclass(format('%%I.%%I', %1$L, part)));
  perform %1$I.audit_revoke_defaults(to_regclass(format('%%I.%%I', %1$L, part)));
  -- ATTACH takes a weaker lock on the parent than PARTITION OF: writers of other days go on meanwhile.
  execute format('alter table %%1$I.audit_events attach partition %%1$I.%%2$I for values from (%%3$L) to (%%4$L)', %1$L, part,
    to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
  return true;
end
$body$;

create function %1$I.audit_compress(target regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $body$
begin
  execute format('alter table %%s alter column decision set compression lz4, alter column request_json set compression lz4,
    alter column response_json set compression lz4', target);
exception when feature_not_supported then null;
end
$body$;
revoke all on function %1$I.audit_compress(regclass) from public;
`

/** Only denials are in it, so allowed calls do not pay for it. */
const INDEX = `
create index audit_events_denied_by on audit_events using gin ((decision #> '{authz,denied_by}') jsonb_path_ops)
  where outcome = 'denied_authz';
`

const VIEWS = `
create view audit_events_expanded as
  select id, ts, writer, seq, leaf, request_id, tenant, principal_id, principal_kind, role, roles, api_key_id, client_ip,
    client_name, client_version, protocol_version, session_hash, http_method, method, server, target_kind, tool_name,
    outcome, status_code, reason, error_message, latency_ms, upstream_ms, policy_revision, request_json, response_json,
    audit_decision(decision) as decision, redaction
  from audit_events;
comment on view audit_events_expanded is 'audit_events with every trace in its readable form';

create view audit_denials as
  select ts, id, request_id, tenant, principal_id, principal_kind, roles, api_key_id, client_ip, method, server,
    target_kind, tool_name, outcome, reason, status_code,
    case jsonb_typeof(decision #> '{authz,denied_by}') when 'array'
      then array(select jsonb_array_elements_text(decision #> '{authz,denied_by}')) else '{}' end as denied_by,
    coalesce(decision #>> '{authz,policy,revision}', policy_revision) as policy_revision, decision
  from audit_events
  where outcome in ('denied_admit', 'denied_auth', 'denied_authz', 'killed', 'rate_limited');
comment on view audit_denials is 'attempts that were refused for what they are: not for a fault, not for their form';

create view audit_rule_hits as
  select e.ts, e.id, e.tenant, e.principal_id, e.server, e.tool_name, e.outcome, e.policy_revision,
    hit.rule ->> 'rule' as rule, hit.rule ->> 'at' as rule_at, hit.rule ->> 'title' as rule_title,
    hit.rule ->> 'outcome' as rule_outcome, hit.rule -> 'value' as rule_value, hit.position::int as position
  from audit_events e
  cross join lateral jsonb_array_elements(audit_trace(e.decision) -> 'rules') with ordinality as hit (rule, position);
comment on view audit_rule_hits is 'one row per rule that an evaluation entered at the top of its trace';

create view audit_latency as
  select ts, id, method, server, tool_name, outcome, status_code, latency_ms, upstream_ms,
    latency_ms - coalesce(upstream_ms, 0) as gateway_ms,
    (decision #>> '{timings_us,auth}')::float8 / 1000 as auth_ms,
    (decision #>> '{timings_us,read}')::float8 / 1000 as read_ms,
    (decision #>> '{timings_us,authz}')::float8 / 1000 as authz_ms,
    (decision #>> '{timings_us,rate}')::float8 / 1000 as rate_ms,
    (decision #>> '{timings_us,validate}')::float8 / 1000 as validate_ms,
    (decision #>> '{timings_us,audit}')::float8 / 1000 as audit_ms,
    (decision #>> '{authz,eval_us}')::float8 / 1000 as eval_ms,
    (decision #>> '{authz,fuel}')::float8 as fuel
  from audit_events;
comment on view audit_latency is 'where the time of each attempt went, in milliseconds';

select audit_revoke_defaults(name::regclass)
  from unnest(array['audit_events_expanded', 'audit_denials', 'audit_rule_hits', 'audit_latency']) as name;
`

/** How rows are kept and read: compact traces, compression per day, views for auditors. */
export const auditStorageMigration: Migration = {
  id: 6,
  name: 'audit-storage',
  async up(client) {
    const schema = await client.query<{ name: string }>('select current_schema() as name')
    const inSchema = async (sql: string) => {
      const { rows } = await client.query<{ text: string }>('select format($1, $2::text) as text', [
        sql,
        schema.rows[0]?.name,
      ])
      await client.query(rows[0]?.text ?? '')
    }
    await inSchema(WORDS)
    await inSchema(
      'alter table %1$I.policy_revisions add column trace_words jsonb generated always as (%1$I.audit_trace_words(dictionary)) stored',
    )
    await inSchema(EXPAND)
    await inSchema(CREATE_DAY)
    await client.query(INDEX + VIEWS)
  },
  grants: [
    'select on table audit_events_expanded',
    'select on table audit_denials',
    'select on table audit_rule_hits',
    'select on table audit_latency',
  ],
}
