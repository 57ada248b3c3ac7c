/**
 * One HTTP exchange with an upstream on undici's dispatch interface, the cheapest it has: deadline, abort, backpressure
 * and draining in one place. Knows nothing of MCP.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { Dispatcher } from 'undici'
import type { CallSignal } from '../call-signal.ts'
import { GatewayError } from '../errors.ts'
import type { StreamLimits, StreamWatch } from './stream-watch.ts'

/** What is sent. `body` null for GET and DELETE. */
export interface ExchangeRequest {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer | null
}

/** Says how to go on after a chunk: a promise holds the upstream back; `done` means the rest is of no interest. */
export type ChunkVerdict = 'more' | 'done'

/**
 * Takes what comes back, in order; the exchange resolves when the answer has ended or a chunk was `done`. Whatever it throws
 * ends the exchange and is what {@link exchange} rejects with.
 */
export interface ExchangeReceiver {
  /**
   * Returns the limits of a stream, null for an answer that must be complete within the deadline, or `done` when the head
   * says it all.
   */
  onHead(status: number, headers: IncomingHttpHeaders): StreamLimits | 'done' | null
  onChunk(chunk: Buffer): ChunkVerdict | Promise<ChunkVerdict>
}

/** Where an exchange takes place, and within which bounds. */
export interface ExchangeOptions {
  readonly dispatcher: Dispatcher
  /** Aborts the exchange; a GatewayError as its reason is thrown as it is, anything else becomes `client_closed`. */
  readonly signal: CallSignal | null
  /** From now to the last byte of an answer, or to the head of a stream. */
  readonly timeoutMs: number
  readonly watch: StreamWatch
}

/** What an upstream may still send after its answer before the connection is cut instead of reused. */
const DRAIN_MAX_BYTES = 65_536
const DRAIN_MAX_MS = 1000

/**
 * Sends the request once (it is never repeated) and feeds the receiver. Throws `upstream_failed`, `upstream_timeout`,
 * `client_closed` or what the receiver threw. The connection is given back or cut before or soon after it settles.
 */
export function exchange(
  request: ExchangeRequest,
  receiver: ExchangeReceiver,
  options: ExchangeOptions,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const running = new RunningExchange(receiver, options, resolve, reject)
    const { method, path, headers, body } = request
    try {
      options.dispatcher.dispatch({ method, path, headers, body, headersTimeout: 0, bodyTimeout: 0 }, running)
    } catch (thrown) {
      running.fail(connectionError(thrown))
    }
  })
}

/** The state of one exchange. A class because undici calls it back from many sides. */
class RunningExchange implements Dispatcher.DispatchHandler {
  private readonly receiver: ExchangeReceiver
  private readonly options: ExchangeOptions
  private readonly resolve: () => void
  private readonly reject: (error: unknown) => void
  private controller: Dispatcher.DispatchController | null = null
  private settled = false
  /** The upstream has nothing more to say: ended or broken. */
  private ended = false
  private drained = 0
  private timer: NodeJS.Timeout | null
  private touch: (() => void) | null = null
  private unwatch: (() => void) | null = null
  /** Set while a chunk is being worked on; what comes after waits for it. */
  private busy: Promise<void> | null = null

  constructor(
    receiver: ExchangeReceiver,
    options: ExchangeOptions,
    resolve: () => void,
    reject: (error: unknown) => void,
  ) {
    this.receiver = receiver
    this.options = options
    this.resolve = resolve
    this.reject = reject
    this.timer = setTimeout(this.onTimeout, options.timeoutMs)
    if (options.signal?.aborted === true) this.onAbort()
    else options.signal?.addEventListener('abort', this.onAbort)
  }

  fail(error: unknown): void {
    this.settle(error)
    if (!this.ended) this.controller?.abort(new Error('exchange abandoned'))
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.controller = controller
    // Given up while it waited for a free connection: nothing is written to the socket.
    if (this.settled) controller.abort(new Error('exchange abandoned'))
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ): void {
    if (this.settled || status < 200) return
    try {
      const limits = this.receiver.onHead(status, headers)
      if (limits === 'done') this.finish()
      else if (limits !== null) this.watchStream(limits)
    } catch (thrown) {
      this.fail(thrown)
    }
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.settled) {
      this.drained += chunk.length
      if (this.drained > DRAIN_MAX_BYTES) controller.abort(new Error('too much after the answer'))
      return
    }
    this.touch?.()
    try {
      const verdict = this.receiver.onChunk(chunk)
      if (verdict === 'done') this.finish()
      if (typeof verdict === 'string') return
      controller.pause()
      this.busy = verdict.then(this.onWorked, (thrown: unknown) => this.fail(thrown))
    } catch (thrown) {
      this.fail(thrown)
    }
  }

  onResponseEnd(): void {
    this.ended = true
    this.afterWork(() => this.settle(null))
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.ended = true
    this.afterWork(() => this.settle(connectionError(error)))
  }

  private readonly onWorked = (verdict: ChunkVerdict): void => {
    this.busy = null
    this.touch?.()
    if (verdict === 'done') this.finish()
    this.controller?.resume()
  }

  private readonly onTimeout = (): void => {
    this.fail(
      new GatewayError('upstream_timeout', { detail: `no answer within ${this.options.timeoutMs} ms` }),
    )
  }

  private readonly onAbort = (): void => {
    const reason: unknown = this.options.signal?.reason
    this.fail(reason instanceof GatewayError ? reason : new GatewayError('client_closed'))
  }

  private afterWork(run: () => void): void {
    if (this.busy === null) run()
    else void this.busy.then(run)
  }

  private watchStream(limits: StreamLimits): void {
    this.clear()
    const watched = this.options.watch.add(limits, (expired) => this.fail(expired))
    this.touch = watched.touch
    this.unwatch = watched.remove
  }

  /** The receiver has its answer; what the upstream still sends is thrown away, within bounds. */
  private finish(): void {
    this.settle(null)
    if (this.ended) return
    this.timer = setTimeout(() => this.controller?.abort(new Error('no end after the answer')), DRAIN_MAX_MS)
    this.timer.unref()
  }

  private settle(error: unknown): void {
    this.clear()
    if (this.settled) return
    this.settled = true
    this.options.signal?.removeEventListener('abort', this.onAbort)
    if (error === null) this.resolve()
    else this.reject(error)
  }

  private clear(): void {
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    this.unwatch?.()
    this.unwatch = null
    this.touch = null
  }
}

/** The connection to the upstream could not be made, or broke. */
export class ConnectionFault extends GatewayError {}

const TIMEOUT_CODES = new Set(['UND_ERR_CONNECT_TIMEOUT', 'ETIMEDOUT'])
/** What undici says about a request that it would not send, or that we ended: the upstream had no part in it. */
const OWN_CODES = new Set([
  'UND_ERR_INVALID_ARG',
  'UND_ERR_NOT_SUPPORTED',
  'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH',
  'UND_ERR_ABORTED',
  'UND_ERR_CLOSED',
  'UND_ERR_DESTROYED',
])
const MAX_DETAIL = 200

/** A fault of the connection as the gateway's own error. The text is for the operator; it never holds upstream bytes. */
export function connectionError(thrown: unknown): GatewayError {
  if (thrown instanceof GatewayError) return thrown
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  const code = (error as NodeJS.ErrnoException).code ?? error.name
  const detail = (error.message === '' ? code : `${code}: ${error.message}`).slice(0, MAX_DETAIL)
  if (OWN_CODES.has(code)) return new GatewayError('upstream_failed', { cause: thrown, detail })
  return new ConnectionFault(TIMEOUT_CODES.has(code) ? 'upstream_timeout' : 'upstream_failed', {
    cause: thrown,
    detail,
  })
}
