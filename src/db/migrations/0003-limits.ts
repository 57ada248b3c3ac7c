import type { Migration } from './migration.ts'

/**
 * Counters of limits in the layout of `rate-limiter-flexible`: points used in the window that ends at `expire` (ms since
 * the epoch). A row whose window has ended counts as empty; the next charge begins a new window in it.
 *
 * `expire` changes once in a window, so charges within a window stay heap-only updates in spite of the index, which is
 * there for the sweep.
 */
const TABLE = `
create table rate_limits (
  key    varchar(255) collate "C" primary key,
  points integer not null default 0 check (points >= 0),
  expire bigint not null default 0
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
comment on column rate_limits.key is 'SHA-256 of the limit''s name, window and key parts; the parts are stored nowhere';
create index rate_limits_expire on rate_limits (expire);

create function rate_now() returns timestamptz language sql volatile as 'select clock_timestamp()';
comment on function rate_now() is 'the one clock of all windows';
revoke all on function rate_now() from public;
`

/**
 * Charges a queue of calls in one statement, each as if it had come alone, in their order, all limits of a call or none.
 *
 * 1. One pass in key order makes the missing rows and locks the others (the WHERE that never holds locks a row and leaves
 *    it as it is). Everybody locks in this order, each row once, so there is nothing to deadlock on.
 * 2. Only then the time is taken: whoever waited for a lock is judged by the time at which it got it.
 * 3. The calls are judged one after the other on the counters in memory.
 * 4. Counters that have changed are written once.
 *
 * Lists instead of rows keep the call small: `keys` and `spans` are one entry per counter; `key_at` (index into `keys`,
 * from 1), `costs`, `maxima` and `enforced` one per limit of a call; `call_ends` is the last limit of each call. A span is
 * the window in ms, or -1 for the UTC day, -2 for the UTC month.
 *
 * A window that would end more than a whole window too late was written under a clock that has since been set back; it
 * counts as ended, or its callers would be locked out until that clock's future has come.
 */
const CHARGE = `
do $migration$ begin
execute format($define$
create function %1$I.rate_charge(
  keys text[], spans bigint[], key_at int[], costs bigint[], maxima bigint[], enforced boolean[], call_ends int[],
  out allowed boolean[], out consumed bigint[], out ends bigint[], out now_ms bigint
) language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  -- Keep the plans at a few index look-ups, whatever the statistics said when they were made.
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $body$
declare
  points_before bigint[];
  points_now bigint[];
  day_end bigint;
  month_end bigint;
  taken_at timestamptz;
  first_limit int := 1;
  fits boolean;
  at int;
begin
  -- A crash of the server may lose the last counts; waiting for the disk would hold every hot counter's lock meanwhile.
  perform set_config('synchronous_commit', 'off', true);

  insert into %1$I.rate_limits as held (key)
    select wanted.key from unnest(rate_charge.keys) as wanted(key) order by wanted.key collate "C"
    on conflict (key) do update set points = held.points where false;

  taken_at := %1$I.rate_now();
  now_ms := floor(extract(epoch from taken_at) * 1000);
  day_end := extract(epoch from (date_trunc('day', taken_at at time zone 'UTC') + interval '1 day')) * 1000;
  month_end := extract(epoch from (date_trunc('month', taken_at at time zone 'UTC') + interval '1 month')) * 1000;

  select array_agg(case when facts.is_open then counter.points else 0 end order by wanted.at),
         array_agg(case when facts.is_open then counter.expire else fresh.window_end end order by wanted.at)
    into points_before, ends
    from unnest(rate_charge.keys, rate_charge.spans) with ordinality as wanted(key, span, at)
    join %1$I.rate_limits counter on counter.key = wanted.key
    cross join lateral (select
      case wanted.span when -1 then day_end when -2 then month_end else now_ms + wanted.span end as window_end,
      case wanted.span when -1 then 86400000 when -2 then 2678400000 else wanted.span end as length) fresh
    cross join lateral (select
      counter.expire > now_ms and counter.expire <= fresh.window_end + fresh.length as is_open) facts;
  if cardinality(points_before) is distinct from cardinality(keys) then
    raise exception 'a counter is missing';
  end if;

  points_now := points_before;
  consumed := array_fill(0::bigint, array[cardinality(costs)]);
  allowed := array_fill(true, array[cardinality(call_ends)]);
  for which in 1 .. cardinality(call_ends) loop
    fits := true;
    for part in first_limit .. call_ends[which] loop
      if enforced[part] and points_now[key_at[part]] + costs[part] > maxima[part] then
        fits := false;
        exit;
      end if;
    end loop;
    for part in first_limit .. call_ends[which] loop
      at := key_at[part];
      if fits then
        -- Limits that are only watched count on beyond their maximum, up to what the column holds.
        points_now[at] := least(points_now[at] + costs[part], 2147483647);
      end if;
      consumed[part] := points_now[at];
    end loop;
    allowed[which] := fits;
    first_limit := call_ends[which] + 1;
  end loop;

  update %1$I.rate_limits as counter set points = judged.points_after, expire = judged.window_end
    from unnest(keys, points_before, points_now, ends) as judged(key, points_before, points_after, window_end)
    where counter.key = judged.key and judged.points_after > judged.points_before;
end
$body$
$define$, current_schema());
end $migration$;

revoke all on function rate_charge(text[], bigint[], int[], bigint[], bigint[], boolean[], int[]) from public;
`

/** Removes counters whose windows have long ended, a few at a time, around rows that somebody is charging. */
const SWEEP = `
do $migration$ begin
execute format($define$
create function %1$I.rate_sweep(kept_ms bigint, max_rows int) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $body$
declare
  removed int;
begin
  perform set_config('synchronous_commit', 'off', true);
  with ended as (
    select counter.key from %1$I.rate_limits counter
    where counter.expire < floor(extract(epoch from %1$I.rate_now()) * 1000) - greatest(kept_ms, 0)
    order by counter.expire limit max_rows for update skip locked
  )
  delete from %1$I.rate_limits counter using ended where counter.key = ended.key;
  get diagnostics removed = row_count;
  return removed;
end
$body$
$define$, current_schema());
end $migration$;

revoke all on function rate_sweep(bigint, int) from public;
`

/**
 * Counters of limits. The runtime role may charge them, sweep what has ended and read them; it cannot give anything back.
 */
export const limitsMigration: Migration = {
  id: 3,
  name: 'limits',
  async up(client) {
    await client.query(TABLE + CHARGE + SWEEP)
  },
  grants: [
    'select on table rate_limits',
    'execute on function rate_charge(text[], bigint[], int[], bigint[], bigint[], boolean[], int[])',
    'execute on function rate_sweep(bigint, int)',
  ],
}
