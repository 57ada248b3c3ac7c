import type { Client } from 'pg'

/** LISTEN on `gateway_changes`, for as long as it is open; reconnects by itself. Only hints: it may miss any of them. */
export interface ChangeListener {
  close(): Promise<void>
}

const FIRST_DELAY_MS = 250
const MAX_DELAY_MS = 5000

/**
 * @param openClient makes a client that is not connected yet
 * @param onHint something may have changed; also called after each new connection
 */
export function createChangeListener(openClient: () => Client, onHint: () => void): ChangeListener {
  let client: Client | null = null
  let timer: NodeJS.Timeout | null = null
  let delayMs = FIRST_DELAY_MS
  let isClosed = false

  async function connect(): Promise<void> {
    const mine = openClient()
    client = mine
    mine.on('notification', onHint)
    mine.on('error', () => lose(mine))
    mine.on('end', () => lose(mine))
    try {
      await mine.connect()
      await mine.query('listen gateway_changes')
      delayMs = FIRST_DELAY_MS
      onHint()
    } catch {
      lose(mine)
    }
  }

  function lose(mine: Client): void {
    if (client !== mine || isClosed) return
    client = null
    void mine.end().catch(() => undefined)
    timer = setTimeout(() => void connect(), delayMs)
    timer.unref()
    delayMs = Math.min(delayMs * 2, MAX_DELAY_MS)
  }

  void connect()
  return {
    async close() {
      isClosed = true
      if (timer !== null) clearTimeout(timer)
      await client?.end().catch(() => undefined)
    },
  }
}
