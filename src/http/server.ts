/** The front door: an Express application on a hardened server, which turns requests into exchanges for the spine. */
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http'
import { STATUS_CODES } from 'node:http'
import type { ServerOptions as TlsOptions } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import type { NextFunction, Request, Response } from 'express'
import express from 'express'
import { MERGED } from '../gateway/federation/names.ts'
import type { Exchange, ReplyHead, RequestHead } from '../gateway/types.ts'
import { announcesBody } from './body.ts'
import { HttpExchange } from './exchange.ts'
import type { Listener } from './express-prototypes.ts'
import { createExpressServer, toListener } from './express-prototypes.ts'
import { commonHeaders } from './reply.ts'
import type { Doorman } from './turn-away.ts'
import { createTurnAway } from './turn-away.ts'

/** Bounds of the server. Times in milliseconds. */
export interface FrontDoorLimits {
  /** Bytes of one request's head. */
  readonly maxHeaderBytes: number
  readonly maxHeaders: number
  /** From the first byte of a request to the end of its head. */
  readonly headersTimeoutMs: number
  /** From the first byte of a request to its last; cuts the connection. */
  readonly requestTimeoutMs: number
  /** From the start of reading a body to its last byte; answered with 400. Shorter than `requestTimeoutMs`. */
  readonly bodyTimeoutMs: number
  /** How long an idle connection is kept. */
  readonly keepAliveTimeoutMs: number
  /** How long a client may leave an answer unread. */
  readonly writeStallMs: number
  /** How often quiet streams get a comment; one timer for all of them. */
  readonly streamKeepAliveMs: number
  /** How often the server looks for connections that passed a timeout. */
  readonly timeoutCheckMs: number
  /** More are closed as soon as they are made. */
  readonly maxConnections: number
  /** From the connection to the end of its TLS handshake. */
  readonly tlsHandshakeTimeoutMs: number
  readonly maxRequestsPerSocket: number
  /** Requests of one connection that are being worked on at once. */
  readonly maxPipelined: number
}

/** Limits for what is not configured. */
export const DEFAULT_FRONT_DOOR_LIMITS: FrontDoorLimits = {
  maxHeaderBytes: 16_384,
  maxHeaders: 100,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 60_000,
  bodyTimeoutMs: 30_000,
  keepAliveTimeoutMs: 65_000,
  writeStallMs: 60_000,
  streamKeepAliveMs: 15_000,
  timeoutCheckMs: 5_000,
  maxConnections: 10_000,
  tlsHandshakeTimeoutMs: 10_000,
  maxRequestsPerSocket: 10_000,
  maxPipelined: 16,
}

/** What the front door is made from. */
export interface FrontDoorOptions {
  /** Takes every exchange of `/mcp/<upstream>` and of `/mcp`; never rejects. */
  readonly spine: (exchange: Exchange) => Promise<void>
  readonly limits?: Partial<FrontDoorLimits>
  /** PEM files; null = plain HTTP. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string } | null
  /** The answer to a preflight of a browser; null = an attempt. Absent = all are attempts. */
  readonly preflight?: (head: RequestHead) => ReplyHead | null
  /** Asked before anything is made for an attempt; absent = all are handed on. */
  readonly doorman?: Doorman
  /** An id for the answers that never reach the spine. */
  readonly newRequestId: () => string
  readonly log: {
    debug(fields: object, text: string): void
    error(fields: object, text: string): void
  }
}

/** The listening server. */
export interface FrontDoor {
  /** Starts to listen; port 0 takes a free one. Rejects when the address cannot be bound or the TLS files not be read. */
  listen(host: string, port: number): Promise<AddressInfo>
  /**
   * Stops accepting, lets exchanges finish for `graceMs`, then cuts the rest. Resolves when every attempt has ended,
   * its audit record included.
   */
  close(graceMs: number): Promise<void>
}

/** How long a stopping server waits for the first request of a connection that was just made. */
const UNUSED_GRACE_MS = 250

/** Upstream names that can stand in a URL; anything else is no mount, so it is nobody's attempt. */
const MOUNT = /^[A-Za-z0-9._~-]{1,128}$/
/** The URL of a mount in its plain form; others are decoded by Express. */
const PLAIN_PATH = /^\/mcp\/([A-Za-z0-9._~-]{1,128})(?:\?|$)/

/** Makes the front door. Paths other than `/mcp/<upstream>` and `/mcp` are answered 404 here and leave no audit row. */
export function createFrontDoor(options: FrontDoorOptions): FrontDoor {
  const limits = { ...DEFAULT_FRONT_DOOR_LIMITS, ...options.limits }
  const connections = new Map<Duplex, HttpExchange[]>()
  const attempts = createAttemptCount()
  /** Connections on which no attempt has begun: Node counts them as busy, so a silent one would hold up the end. */
  const unused = new Set<Duplex>()
  let server: Server | null = null
  let keepAlive: NodeJS.Timeout | null = null
  let closing = false

  function serve(request: IncomingMessage, response: ServerResponse, mount: string): void {
    const open = exchangesOf(connections, request.socket)
    unused.delete(request.socket)
    if (open.length >= limits.maxPipelined) request.socket.destroy()
    if (request.socket.destroyed) return
    const exchange = new HttpExchange(request, response, mount, limits)
    if (closing) exchange.drainConnection()
    open.push(exchange)
    attempts.begin()
    const ended = (): void => {
      open.splice(open.indexOf(exchange), 1)
      attempts.end()
    }
    answer(options, exchange).then(ended, (fault: unknown) => {
      options.log.error({ err: fault }, 'an attempt failed outside the spine')
      exchange.abort()
      ended()
    })
  }

  function everyExchange(visit: (exchange: HttpExchange) => void): void {
    for (const open of connections.values()) for (const exchange of [...open]) visit(exchange)
  }

  return {
    async listen(host, port) {
      const tls = await readTls(options.tls ?? null, limits)
      const app = createApp(options, limits, serve)
      const listener = guard(toListener(app), options.doorman, (socket) => {
        unused.delete(socket)
        return closing
      })
      server = createExpressServer(app, serverOptions(limits), tls, listener)
      hardenServer(server, listener, limits, options, connections)
      watchUnused(server, tls !== null, unused)
      server.listen({ port, host, backlog: 4096 })
      await once(server, 'listening')
      keepAlive = setInterval(
        () => everyExchange((exchange) => exchange.keepAlive()),
        limits.streamKeepAliveMs,
      )
      keepAlive.unref()
      return server.address() as AddressInfo
    },

    async close(graceMs) {
      if (server === null || closing) return
      closing = true
      if (keepAlive !== null) clearInterval(keepAlive)
      everyExchange((exchange) => exchange.drainConnection())
      const closed = once(server, 'close')
      server.close()
      // Streams were opened before anyone thought of closing: their connections become idle only when they end.
      const sweep = setInterval(() => server?.closeIdleConnections(), 50)
      const idle = setTimeout(() => destroyAll(unused), Math.min(graceMs, UNUSED_GRACE_MS))
      const cut = setTimeout(() => {
        everyExchange((exchange) => exchange.abort())
        server?.closeAllConnections()
      }, graceMs)
      await closed
      await attempts.allEnded()
      for (const timer of [sweep, idle, cut]) clearTimeout(timer)
    },
  }
}

/** How many attempts have begun and not ended. */
function createAttemptCount(): { begin(): void; end(): void; allEnded(): Promise<void> } {
  let running = 0
  let onNone: (() => void) | null = null
  return {
    begin: () => {
      running += 1
    },
    end: () => {
      running -= 1
      if (running === 0) onNone?.()
    },
    allEnded: () =>
      new Promise((resolve) => {
        onNone = resolve
        if (running === 0) resolve()
      }),
  }
}

/**
 * Attempts for which there is no time are answered here, before Express and the spine have any work with them.
 * `onTurnedAway` is told of their connection and says whether it must end.
 */
function guard(
  next: Listener,
  doorman: Doorman | undefined,
  onTurnedAway: (socket: Duplex) => boolean,
): Listener {
  if (doorman === undefined) return next
  const turnAway = createTurnAway(doorman)
  return (request, response) => {
    const mount = doorman.handsOn() ? undefined : PLAIN_PATH.exec(request.url ?? '')?.[1]
    if (mount === undefined) next(request, response)
    else turnAway(request, response, mount, onTurnedAway(request.socket))
  }
}

/** What browsers ask before a page may call is no attempt. */
function answer(options: FrontDoorOptions, exchange: HttpExchange): Promise<void> {
  const preflight = options.preflight?.(exchange.head) ?? null
  if (preflight === null) return options.spine(exchange)
  const headers = { ...commonHeaders(options.newRequestId()), ...preflight.headers }
  return exchange.finish({ status: preflight.status, headers, message: null, frame: null })
}

function watchUnused(server: Server, secure: boolean, unused: Set<Duplex>): void {
  server.on(secure ? 'secureConnection' : 'connection', (socket: Duplex) => {
    unused.add(socket)
    socket.once('close', () => unused.delete(socket))
  })
}

function destroyAll(sockets: ReadonlySet<Duplex>): void {
  for (const socket of sockets) socket.destroy()
}

type Serve = (request: IncomingMessage, response: ServerResponse, mount: string) => void

function createApp(options: FrontDoorOptions, limits: FrontDoorLimits, serve: Serve): express.Express {
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('query parser', false)
  app.enable('strict routing')
  app.enable('case sensitive routing')
  const refuse = (request: IncomingMessage, response: ServerResponse, status: number) =>
    refuseOutside(request, response, {
      status,
      requestId: options.newRequestId(),
      body: outsideBody(status),
    })

  // Not `app.all`: that registers one handler for each HTTP method there is, and every request walks along them.
  app.route('/mcp').all((request, response, next) => {
    if (request.rawHeaders.length > limits.maxHeaders * 2) refuse(request, response, 431)
    else if (!request.url.startsWith('/')) next()
    else serve(request, response, MERGED)
  })
  app.route('/mcp/:upstream').all((request, response, next) => {
    const { upstream } = request.params
    if (request.rawHeaders.length > limits.maxHeaders * 2) refuse(request, response, 431)
    // A request target in absolute form would name a host of its own beside the header that is checked.
    else if (!request.url.startsWith('/') || !MOUNT.test(upstream)) next()
    else serve(request, response, upstream)
  })
  app
    .route('/register')
    .post((request, response) =>
      refuseOutside(request, response, { status: 404, requestId: options.newRequestId(), body: NO_OAUTH }),
    )
  app.use((request: Request, response: Response) => refuse(request, response, 404))
  app.use((error: unknown, request: Request, response: Response, _next: NextFunction) => {
    // Express itself fails here for one reason: a path that cannot be percent-decoded.
    options.log.debug({ err: error }, 'request refused before routing')
    if (response.headersSent) request.socket.destroy()
    else refuse(request, response, 400)
  })
  return app
}

/** An answer to what is no attempt: no upstream is named, or it is not HTTP. */
function refuseOutside(
  request: IncomingMessage,
  response: ServerResponse,
  { status, requestId, body }: { readonly status: number; readonly requestId: string; readonly body: string },
): void {
  response.writeHead(status, {
    ...commonHeaders(requestId),
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
    ...(announcesBody(request) ? { connection: 'close' } : {}),
  })
  response.end(body)
}

function outsideBody(status: number): string {
  return JSON.stringify({ code: 1000 + status, message: STATUS_CODES[status] ?? 'Error' })
}

/**
 * Clients that know OAuth try to register here when their key is refused, and show what they are told (RFC 7591, 3.2.2):
 * without it a person reads of a failed registration, and not of the key.
 */
const NO_OAUTH = JSON.stringify({
  error: 'invalid_request',
  error_description:
    'The key was refused: it is missing, unknown, expired or revoked. This gateway takes keys (Authorization: Bearer), no OAuth registration.',
})

function serverOptions(limits: FrontDoorLimits): ServerOptions {
  return {
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: limits.timeoutCheckMs,
    insecureHTTPParser: false,
    // A missing Host is refused by `admit`, where it leaves a row.
    requireHostHeader: false,
    joinDuplicateHeaders: false,
    noDelay: true,
  }
}

function hardenServer(
  server: Server,
  listener: Listener,
  limits: FrontDoorLimits,
  options: FrontDoorOptions,
  connections: ReadonlyMap<Duplex, readonly HttpExchange[]>,
): void {
  // Node drops headers beyond its own count without a word; the size bounds them, and the count is refused above.
  server.maxHeadersCount = 0
  server.maxRequestsPerSocket = limits.maxRequestsPerSocket
  server.maxConnections = limits.maxConnections
  // The body is asked for when it is read, not before the credential has been checked.
  server.on('checkContinue', listener)
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    options.log.debug({ code: error.code }, 'malformed request')
    const isBusy = (connections.get(socket)?.length ?? 0) > 0
    const isHttp = /^(HPE_|ERR_HTTP_)/.test(error.code ?? '')
    if (isBusy || !isHttp || !socket.writable) socket.destroy()
    else refuseMalformed(socket, error.code, options.newRequestId())
  })
}

/** Parser errors leave no request to answer, only a socket. */
function refuseMalformed(socket: Duplex, code: string | undefined, requestId: string): void {
  const status = code === 'HPE_HEADER_OVERFLOW' ? 431 : code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : 400
  const body = outsideBody(status)
  const headers = {
    ...commonHeaders(requestId),
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
    connection: 'close',
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${lines.join('')}\r\n${body}`, () =>
    socket.destroy(),
  )
}

/** The exchanges of a connection. When it closes they are all left by their client, also those that were pipelined. */
function exchangesOf(connections: Map<Duplex, HttpExchange[]>, socket: Duplex): HttpExchange[] {
  const known = connections.get(socket)
  if (known !== undefined) return known
  const open: HttpExchange[] = []
  connections.set(socket, open)
  socket.once('close', () => {
    connections.delete(socket)
    for (const exchange of [...open]) exchange.left()
  })
  return open
}

async function readTls(
  files: FrontDoorOptions['tls'] | null,
  { tlsHandshakeTimeoutMs }: FrontDoorLimits,
): Promise<TlsOptions | null> {
  if (files === null || files === undefined) return null
  const [cert, key] = await Promise.all([readFile(files.certFile), readFile(files.keyFile)])
  return { cert, key, minVersion: 'TLSv1.2', handshakeTimeout: tlsHandshakeTimeoutMs }
}
