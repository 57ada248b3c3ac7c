/**
 * The answer to one HTTP request that never was one: what a stdio server says, as undici hands answers on. JSON when the
 * response comes first, a stream of events as soon as anything comes before it.
 */
import type { Dispatcher } from 'undici'
import { GatewayError } from '../../errors.ts'
import { encodeEvent } from '../../sse.ts'
import { EVENT_STREAM, JSON_TYPE } from '../head-plan.ts'

/** Bytes that wait for a slow reader. A server that many use cannot be held back for one of them. */
const MAX_QUEUED = 8 * 1024 * 1024

/** A class because undici's handler and the server's answers come from two sides. */
export class HttpReply {
  /** Called once when the reader has gone before the end. */
  onAbandoned: () => void = () => undefined
  readonly #handler: Dispatcher.DispatchHandler
  readonly #controller: Controller
  readonly #headers: Record<string, string> = {}
  readonly #queue: Buffer[] = []
  #queued = 0
  #state: 'waiting' | 'streaming' | 'ending' | 'done' = 'waiting'

  constructor(handler: Dispatcher.DispatchHandler) {
    this.#handler = handler
    this.#controller = new Controller({
      onAbort: (reason) => this.#abandon(reason),
      onResume: () => this.#drain(),
    })
    handler.onRequestStart?.(this.#controller, {})
  }

  /** Ended, failed or abandoned. */
  get isDone(): boolean {
    return this.#state === 'done'
  }

  /** The session the answer begins; null = none after all. Of no use once the head is out. */
  setSession(id: string | null): void {
    if (id === null) delete this.#headers['mcp-session-id']
    else this.#headers['mcp-session-id'] = id
  }

  /** The whole answer; on a stream its last event. */
  respond(status: number, text: string): void {
    if (this.#state === 'waiting') this.#whole(status, JSON_TYPE, Buffer.from(text))
    else {
      this.event(text)
      this.end()
    }
  }

  /** An answer without a body. */
  empty(status: number): void {
    this.#whole(status, null, null)
  }

  /** Opens a stream, unless it is open. */
  open(): void {
    if (this.#state !== 'waiting') return
    this.#state = 'streaming'
    this.#head(200, EVENT_STREAM)
  }

  /** One message before the response. */
  event(text: string): void {
    this.open()
    if (this.#state === 'streaming')
      this.#push(encodeEvent({ data: text, id: null, event: null, retry: null }))
  }

  end(): void {
    if (this.#state !== 'streaming') return
    this.#state = 'ending'
    this.#drain()
  }

  fail(reason: Error): void {
    if (this.#state === 'done') return
    this.#state = 'done'
    this.#queue.length = 0
    this.#handler.onResponseError?.(this.#controller, reason)
  }

  #whole(status: number, type: string | null, body: Buffer | null): void {
    if (this.#state !== 'waiting') return
    this.#state = 'streaming'
    this.#head(status, type)
    if (body !== null) this.#push(body)
    this.end()
  }

  #head(status: number, type: string | null): void {
    const headers = { ...this.#headers, ...(type === null ? {} : { 'content-type': type }) }
    this.#handler.onResponseStart?.(this.#controller, status, headers)
  }

  #push(bytes: Buffer): void {
    if (this.#queue.length > 0 && this.#queued + bytes.length > MAX_QUEUED) {
      const detail = `its stream is read too slowly: ${this.#queued} bytes wait`
      this.onAbandoned()
      this.fail(new GatewayError('upstream_failed', { detail }))
      return
    }
    this.#queue.push(bytes)
    this.#queued += bytes.length
    this.#drain()
  }

  #drain(): void {
    while (!this.#controller.paused && this.#state !== 'done') {
      const next = this.#queue.shift()
      if (next === undefined) break
      this.#queued -= next.length
      this.#handler.onResponseData?.(this.#controller, next)
    }
    if (this.#state !== 'ending' || this.#queue.length > 0 || this.#controller.paused) return
    this.#state = 'done'
    this.#handler.onResponseEnd?.(this.#controller, {})
  }

  #abandon(reason: Error): void {
    if (this.#state === 'done') return
    this.onAbandoned()
    this.fail(reason)
  }
}

class Controller implements Dispatcher.DispatchController {
  aborted = false
  paused = false
  reason: Error | null = null
  readonly #hooks: { onAbort(reason: Error): void; onResume(): void }

  constructor(hooks: { onAbort(reason: Error): void; onResume(): void }) {
    this.#hooks = hooks
  }

  abort(reason: Error): void {
    if (this.aborted) return
    this.aborted = true
    this.reason = reason
    this.#hooks.onAbort(reason)
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    if (!this.paused) return
    this.paused = false
    this.#hooks.onResume()
  }
}
