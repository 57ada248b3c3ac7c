/** The support desk itself: tickets in memory, made up for one tenant. Nothing survives a restart. */

export interface Ticket {
  readonly id: string
  customer: string
  subject: string
  status: 'open' | 'pending' | 'closed'
  priority: 'low' | 'normal' | 'high'
  notes: string[]
}

export interface Desk {
  readonly tenant: string
  search(query: string, status: Ticket['status'] | null): Ticket[]
  get(id: string): Ticket | null
  create(ticket: Pick<Ticket, 'customer' | 'subject' | 'priority'>): Ticket
  update(id: string, change: Partial<Pick<Ticket, 'status' | 'priority'>> & { note?: string }): Ticket | null
  remove(id: string): boolean
  /** Runs `SELECT columns FROM tickets [WHERE column = 'value'] [LIMIT n]`. Throws an Error for anything else. */
  select(sql: string): Record<string, string>[]
  all(): Ticket[]
}

const SUBJECTS = [
  'Cannot sign in after the update',
  'Invoice shows the wrong amount',
  'Export to CSV stops half way',
  'Please delete my account',
  'Dashboard is slow on Mondays',
  'Refund for order 4711',
  'Two-factor codes are not accepted',
  'How do I invite a colleague?',
]
const CUSTOMERS = ['Ada Byron', 'Grace Murray', 'Linus Benedict', 'Barbara Huberman', 'Edsger Wybe']
const STATUSES = ['open', 'open', 'pending', 'closed'] as const
const PRIORITIES = ['normal', 'high', 'low'] as const

/** The same tenant always gets the same tickets; two tenants get different ones. */
export function createDesk(tenant: string): Desk {
  const tickets = new Map<string, Ticket>()
  const prefix = tenant.slice(0, 3).toUpperCase()
  let seed = [...tenant].reduce((sum, letter) => sum * 31 + (letter.codePointAt(0) ?? 0), 7) % 1009
  let last = 100

  function pick<T>(from: readonly T[]): T {
    seed = (seed * 421 + 1663) % 7875
    return from[seed % from.length] as T
  }

  function add(ticket: Omit<Ticket, 'id' | 'notes'>): Ticket {
    last += 1
    const added: Ticket = { id: `${prefix}-${last}`, ...ticket, notes: [] }
    tickets.set(added.id, added)
    return added
  }

  for (const subject of SUBJECTS) {
    add({ customer: pick(CUSTOMERS), subject, status: pick(STATUSES), priority: pick(PRIORITIES) })
  }

  return {
    tenant,
    search: (query, status) =>
      [...tickets.values()].filter(
        (ticket) =>
          (status === null || ticket.status === status) &&
          `${ticket.subject} ${ticket.customer}`.toLowerCase().includes(query.toLowerCase()),
      ),
    get: (id) => tickets.get(id) ?? null,
    create: (ticket) => add({ ...ticket, status: 'open' }),
    update: (id, { note, ...change }) => {
      const ticket = tickets.get(id)
      if (ticket === undefined) return null
      Object.assign(ticket, change)
      if (note !== undefined) ticket.notes.push(note)
      return ticket
    },
    remove: (id) => tickets.delete(id),
    select: (sql) => select([...tickets.values()], sql),
    all: () => [...tickets.values()],
  }
}

const STATEMENT =
  /^\s*select\s+(?<columns>\*|[a-z, ]+?)\s+from\s+tickets(?:\s+where\s+(?<column>[a-z]+)\s*=\s*'(?<value>[^']*)')?(?:\s+limit\s+(?<limit>[0-9]{1,4}))?\s*;?\s*$/i

function select(tickets: readonly Ticket[], sql: string): Record<string, string>[] {
  const groups = STATEMENT.exec(sql)?.groups
  if (groups === undefined) {
    throw new Error("This desk understands: SELECT columns FROM tickets [WHERE column = 'value'] [LIMIT n]")
  }
  const rows = tickets.map(({ notes, ...columns }) => ({ ...columns, notes: String(notes.length) }))
  const { columns = '*', column, value, limit } = groups
  const wanted =
    columns === '*'
      ? null
      : columns
          .toLowerCase()
          .split(',')
          .map((name) => name.trim())
  return rows
    .map((row) => Object.entries(row))
    .filter(
      (row) =>
        column === undefined || row.some(([name, cell]) => name === column.toLowerCase() && cell === value),
    )
    .slice(0, Number(limit ?? 100))
    .map((row) => Object.fromEntries(row.filter(([name]) => wanted === null || wanted.includes(name))))
}
