/** The bounded reader of request bodies. */
import type { IncomingMessage } from 'node:http'
import { GatewayError } from '../errors.ts'

/** Bounds of one body. */
export interface BodyBounds {
  readonly maxBytes: number
  /** From the start of reading to the last byte. */
  readonly timeoutMs: number
}

/** Whether the request announces a body. */
export function announcesBody(request: IncomingMessage): boolean {
  const { headers } = request
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/**
 * Whether every byte of the body is here. The parser says so itself only a turn after the last byte, so a buffer that
 * holds all that was declared counts too.
 */
export function hasArrived(request: IncomingMessage): boolean {
  const declared = request.headers['content-length']
  return request.complete || (declared !== undefined && request.readableLength >= Number(declared))
}

/** The whole body if it has already arrived and is at most `maxBytes` long, else null. Takes it out of the request. */
export function takeArrived(request: IncomingMessage, maxBytes: number): Buffer | null {
  if (!hasArrived(request) || request.readableLength > maxBytes) return null
  if (request.destroyed || request.readableEnded) return null
  return (request.read() as Buffer | null) ?? Buffer.alloc(0)
}

/**
 * Reads the whole body. Stops reading, and leaves the rest where it is, as soon as a bound is passed.
 * @throws GatewayError `body_too_large`; `invalid_request` when it does not arrive in time; `client_closed`
 */
export function readBody(request: IncomingMessage, bounds: BodyBounds): Promise<Buffer> {
  const tooLarge = () => new GatewayError('body_too_large', { detail: `more than ${bounds.maxBytes} bytes` })
  if (Number(request.headers['content-length'] ?? 0) > bounds.maxBytes) return Promise.reject(tooLarge())
  const arrived = takeArrived(request, bounds.maxBytes)
  if (arrived !== null) return Promise.resolve(arrived)
  if (request.destroyed) return Promise.reject(new GatewayError('client_closed'))

  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let length = 0
    const timer = setTimeout(() => {
      settle()
      reject(new GatewayError('invalid_request', { message: 'Request body did not arrive in time' }))
    }, bounds.timeoutMs)

    const onData = (chunk: Buffer) => {
      length += chunk.length
      chunks.push(chunk)
      if (length <= bounds.maxBytes) return
      settle()
      reject(tooLarge())
    }
    const onEnd = () => {
      settle()
      resolve(Buffer.concat(chunks, length))
    }
    const onGone = () => {
      settle()
      reject(new GatewayError('client_closed', { detail: 'the client left while sending its body' }))
    }
    const settle = () => {
      clearTimeout(timer)
      request.pause()
      request.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone)
    }
    request.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone)
  })
}

/**
 * Throws away what a refused client is still sending, for a bounded time and amount, so that it can read the refusal:
 * closing at once would reset the connection and take the reply with it.
 */
export function discardBody(request: IncomingMessage, bounds: BodyBounds): Promise<void> {
  return new Promise((resolve) => {
    let left = bounds.maxBytes
    const done = () => {
      clearTimeout(timer)
      request.pause()
      request.off('data', onData).off('end', done).off('error', done).off('close', done)
      resolve()
    }
    const onData = (chunk: Buffer) => {
      left -= chunk.length
      if (left < 0) done()
    }
    const timer = setTimeout(done, bounds.timeoutMs)
    request.on('data', onData).on('end', done).on('error', done).on('close', done)
    if (request.destroyed || request.complete) done()
    else request.resume()
  })
}
