import type { Migration } from './migration.ts'

/**
 * Kill switches, as the list of everything that was ever done with them: what is in force is the newest entry of each
 * target. The runtime role can add entries and neither change nor remove any, so who stopped what, and why, stays.
 *
 * `seq` is the number of the announced change: it is given out under the lock of `record_change`, so a higher one was
 * committed later.
 */
export const killSwitchesMigration: Migration = {
  id: 4,
  name: 'kill-switches',
  async up(client) {
    await client.query(`
      create table kill_switches (
        seq      bigint primary key,
        at       timestamptz not null default now(),
        action   text not null check (action in ('kill', 'unkill')),
        kind     text not null check (kind in ('tool', 'server')),
        server   text check (octet_length(server) between 1 and 512),
        name     text not null check (octet_length(name) between 1 and 1024),
        reason   text check (length(reason) between 1 and 1000),
        until    timestamptz,
        actor    text not null check (length(actor) between 1 and 256),
        db_user  text not null default session_user,
        check (kind = 'tool' or server is null),
        check (action = 'unkill' or reason is not null),
        check (action = 'kill' or until is null)
      );
      create index kill_switches_target on kill_switches (kind, name, server, seq);
      comment on column kill_switches.server is 'for a tool: the one server on which it is meant; null = on every one';
      comment on column kill_switches.actor is 'who said so, as the command saw it; db_user is what the database knows';
    `)
  },
  grants: ['select, insert on table kill_switches'],
}
