/** One HTTP exchange on Node's request and response. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { CallSignal } from '../call-signal.ts'
import { CallAbort } from '../call-signal.ts'
import { GatewayError } from '../errors.ts'
import type { Exchange, Reply, ReplyHead, RequestHead, SseEvent } from '../gateway/types.ts'
import { encodeEvent, encodeMessage, KEEP_ALIVE_COMMENT } from '../sse.ts'
import { announcesBody, discardBody, hasArrived, readBody, takeArrived } from './body.ts'

/** Bounds of one exchange, in milliseconds. */
export interface ExchangeBounds {
  /** From the start of reading the body to its last byte. */
  readonly bodyTimeoutMs: number
  /** How long a client may leave what we wrote unread before the connection is cut. */
  readonly writeStallMs: number
}

/** After a refusal at most this much of an unread body is thrown away before the connection is closed. */
const DISCARD = { maxBytes: 1024 * 1024, timeoutMs: 1000 }

/** An {@link Exchange} as its server sees it. */
export class HttpExchange implements Exchange {
  readonly head: RequestHead
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #bounds: ExchangeBounds
  #controller: CallAbort | null = null
  #peeked: Buffer | null = null
  #bodyTaken = false
  #opened = false
  #finished = false
  #gone = false
  #closing = false
  /** Whether something was written since the last keep-alive round. */
  #active = false
  /** Settles when the client has taken what was written, or has gone; null while nothing waits. */
  #blocked: { readonly promise: Promise<void>; release(): void } | null = null

  constructor(request: IncomingMessage, response: ServerResponse, mount: string, bounds: ExchangeBounds) {
    this.#request = request
    this.#response = response
    this.#bounds = bounds
    this.head = {
      httpMethod: request.method ?? '',
      mount,
      rawHeaders: request.rawHeaders,
      headers: request.headers,
      peer: request.socket.remoteAddress ?? '',
    }
    // The reply's errors are the client's absence, which `left` reports.
    response.on('error', () => undefined)
    request.on('error', () => undefined)
  }

  get signal(): CallSignal {
    this.#controller ??= new CallAbort()
    if (this.#gone && !this.#controller.aborted) this.#controller.abort(new GatewayError('client_closed'))
    return this.#controller
  }

  get opened(): boolean {
    return this.#opened
  }

  async readBody(maxBytes: number): Promise<Buffer> {
    if (this.#gone) throw new GatewayError('client_closed')
    if (this.#peeked !== null) {
      if (this.#peeked.length > maxBytes) throw new GatewayError('body_too_large')
      return this.#peeked
    }
    // The parser hands out the head first; the rest of what it holds follows within the same turn.
    if (!hasArrived(this.#request)) await Promise.resolve()
    const bounds = { maxBytes, timeoutMs: this.#bounds.bodyTimeoutMs }
    const expectsGo = this.#request.headers.expect !== undefined
    if (expectsGo && Number(this.#request.headers['content-length'] ?? 0) <= maxBytes)
      this.#response.writeContinue()
    const body = await readBody(this.#request, bounds)
    this.#bodyTaken = true
    return body
  }

  async peekBody(maxBytes: number): Promise<Buffer | null> {
    if (this.#peeked !== null) return this.#peeked.length > maxBytes ? null : this.#peeked
    if (this.#gone || !announcesBody(this.#request)) return null
    // One turn of the event loop, so that bytes the kernel already holds are seen; never longer.
    if (!hasArrived(this.#request)) await new Promise((resolve) => setImmediate(resolve))
    this.#peeked = takeArrived(this.#request, maxBytes)
    this.#bodyTaken = this.#peeked !== null
    return this.#peeked
  }

  open(head: ReplyHead): void {
    if (this.#opened || this.#finished) throw new Error('an exchange is opened once, before it is finished')
    if (!this.#gone) {
      this.#response.writeHead(head.status, this.#headers(head))
      this.#response.flushHeaders()
    }
    this.#opened = true
  }

  async write(event: SseEvent): Promise<void> {
    if (this.#gone || this.#finished) return
    this.#active = true
    const bytes = event.raw.length > 0 ? event.raw : encodeEvent(event)
    if (!this.#response.write(bytes)) await this.#unblocked()
  }

  async finish(reply: Reply): Promise<void> {
    if (this.#finished) return
    this.#finished = true
    if (this.#gone) return
    try {
      if (this.#opened) this.#endStream(reply)
      else await this.#sendWhole(reply)
    } catch {
      // A head that Node refuses to write: nothing has been sent, and nothing can be.
      this.abort()
    }
    // A pipelined reply that waits for the one before it has no socket yet: its client is not slow.
    const isSending = this.#response.socket !== null && this.#response.writableLength > 0
    if (!this.#gone && isSending && !this.#response.writableFinished) await this.#unblocked()
  }

  /** The client has gone: called by the server when the connection has closed. */
  left(): void {
    if (this.#gone) return
    this.#gone = true
    this.#blocked?.release()
    if (!this.#finished) this.#controller?.abort(new GatewayError('client_closed'))
  }

  /** Cuts the connection and lets everyone who waits for this exchange know. */
  abort(): void {
    this.left()
    this.#request.socket.destroy()
  }

  /** From now on replies ask the client to close the connection. */
  drainConnection(): void {
    this.#closing = true
  }

  /** One keep-alive round: writes a comment to a stream that has been quiet since the last round. */
  keepAlive(): void {
    const isQuiet = this.#opened && !this.#finished && !this.#gone && !this.#active && this.#blocked === null
    this.#active = false
    // Comments that nobody takes would pile up for as long as the stream lives.
    if (isQuiet && !this.#response.write(KEEP_ALIVE_COMMENT)) void this.#unblocked()
  }

  #headers(head: ReplyHead): Record<string, string> {
    return this.#closing ? { ...head.headers, connection: 'close' } : { ...head.headers }
  }

  /** On a GET stream only the upstream's own messages make sense: a refusal has no request to belong to there. */
  #endStream(reply: Reply): void {
    const belongs = reply.frame !== null || this.head.httpMethod !== 'GET'
    if (reply.message === null || !belongs) this.#response.end()
    else this.#response.end(encodeMessage(reply.message, reply.frame))
  }

  async #sendWhole(reply: Reply): Promise<void> {
    const { message, frame } = reply
    const body = message === null ? null : frame === null ? message : encodeMessage(message, frame)
    const isUnread = announcesBody(this.#request) && !this.#bodyTaken && !hasArrived(this.#request)
    if (isUnread) this.#closing = true
    const headers = this.#headers(reply)
    if (reply.status !== 204) headers['content-length'] = String(body?.length ?? 0)
    this.#response.writeHead(reply.inBand === true ? 200 : reply.status, headers)
    if (!isUnread) {
      this.#response.end(body ?? undefined)
      return
    }
    if (body === null) this.#response.flushHeaders()
    else this.#response.write(body)
    await discardBody(this.#request, DISCARD)
    this.#response.end()
  }

  async #unblocked(): Promise<void> {
    this.#blocked ??= this.#block()
    await this.#blocked.promise
  }

  #block(): { readonly promise: Promise<void>; release(): void } {
    let release: () => void = () => undefined
    const promise = new Promise<void>((resolve) => {
      const stall = setTimeout(() => this.abort(), this.#bounds.writeStallMs)
      release = () => {
        clearTimeout(stall)
        this.#response.off('drain', release).off('finish', release)
        this.#blocked = null
        resolve()
      }
      this.#response.once('drain', release).once('finish', release)
    })
    return { promise, release: () => release() }
  }
}
