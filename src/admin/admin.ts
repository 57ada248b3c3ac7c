/**
 * The admin listener: `/livez` and `/readyz` for everybody who can reach it, everything else for keys with the scope
 * `gateway:admin`. Errors are RFC 9457 problems.
 */

import type { IncomingMessage, Server } from 'node:http'
import { createServer } from 'node:http'
import { isIP } from 'node:net'
import type { ErrorRequestHandler, Express, RequestHandler, Response } from 'express'
import express from 'express'
import { ENDINGS, toGatewayError } from '../errors.ts'
import type { Credential, Principal } from '../gateway/types.ts'

/** The scope a key needs. */
export const ADMIN_SCOPE = 'gateway:admin'

/** State of one thing the gateway depends on. */
export interface Check {
  readonly state: 'ok' | 'failed' | 'disabled'
  /** Not ready while it fails. Otherwise it is only told. */
  readonly required: boolean
  /** More facts, safe for everybody who can reach the admin listener: `revision`, `pending`, .. */
  readonly [fact: string]: unknown
}

/** What {@link createAdmin} needs. */
export interface AdminOptions {
  readonly listen: { readonly host: string; readonly port: number }
  /** Host names (optionally with port) that requests may name, besides loopback names and addresses. */
  readonly allowedHosts: readonly string[]
  /** All checks by name: database, policy, audit, upstreams. */
  readonly health: () => Readonly<Record<string, Check>> | Promise<Readonly<Record<string, Check>>>
  /** True once a stop signal has come: not ready, but alive. */
  readonly isDraining: () => boolean
  readonly authenticate: (credential: Credential | null, clientIp: string) => Principal | Promise<Principal>
  readonly metrics: { readonly contentType: string; text(): Promise<string> }
  /** Told about faults; texts hold nothing of the request. */
  readonly onFault: (error: unknown) => void
}

/** The admin listener. */
export interface Admin {
  /** Starts to listen; resolves with the address really bound. Rejects with the system's error (EADDRINUSE, ..). */
  listen(): Promise<{ readonly host: string; readonly port: number }>
  /** Stops listening and closes idle connections. */
  close(): Promise<void>
}

/** Longest a health check may take before it counts as failed. */
const HEALTH_TIMEOUT_MS = 2000

/** The door of this room. */
export function createAdmin(options: AdminOptions): Admin {
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 10_000 }, createApp(options))
  server.keepAliveTimeout = 5000
  server.maxConnections = 256
  return {
    listen: () => bind(server, options.listen),
    async close() {
      if (!server.listening) return
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve())
      })
      server.closeAllConnections()
      await closed
    },
  }
}

function createApp(options: AdminOptions): Express {
  const app = express()
  const answerReadiness = createReadiness(options)
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('query parser', false)
  app.use(securityHeaders, checkHost(options.allowedHosts), readOnly)
  app.get('/livez', (_request, response) => {
    response.json({ status: 'live' })
  })
  app.get('/readyz', async (_request, response) => {
    await answerReadiness(response)
  })
  app.use(requireAdmin(options))
  app.get('/metrics', async (_request, response) => {
    const text = await options.metrics.text()
    response.type(options.metrics.contentType).send(text)
  })
  app.use((_request, response) => problem(response, 404, 'Not found'))
  app.use(faults(options.onFault))
  return app
}

const securityHeaders: RequestHandler = (_request, response, next) => {
  response.set({
    'cache-control': 'no-store',
    'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
    'cross-origin-resource-policy': 'same-origin',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
  })
  next()
}

/**
 * Keeps web pages out: a page can make a browser come here under its own host name (DNS rebinding) or send its Origin. An
 * address as Host cannot be rebound; probes of orchestrators use one.
 */
function checkHost(allowed: readonly string[]): RequestHandler {
  const names = new Set(allowed.map((name) => name.toLowerCase()))
  return (request, response, next) => {
    const hosts = request.headersDistinct['host'] ?? []
    const host = (hosts[0] ?? '').toLowerCase()
    const isKnown = hosts.length === 1 && (isOwnHost(host) || names.has(host) || names.has(withoutPort(host)))
    if (!isKnown) return problem(response, 403, 'Host not allowed')
    if (request.headers.origin !== undefined) return problem(response, 403, 'Origin not allowed')
    next()
  }
}

function isOwnHost(host: string): boolean {
  const name = withoutPort(host).replace(/^\[|\]$/g, '')
  return name === 'localhost' || isIP(name) !== 0
}

function withoutPort(host: string): string {
  return host.replace(/:\d{1,5}$/, '')
}

const readOnly: RequestHandler = (request, response, next) => {
  if (request.method === 'GET' || request.method === 'HEAD') return next()
  response.set('allow', 'GET, HEAD')
  problem(response, 405, 'Method not allowed')
}

/** Everybody may ask, and asking costs a database query: those who ask at the same time share one run. */
function createReadiness(options: AdminOptions): (response: Response) => Promise<void> {
  let running: Promise<Checks> | null = null
  const check = (): Promise<Checks> => {
    running ??= withTimeout(options).finally(() => {
      running = null
    })
    return running
  }
  return async (response) => {
    if (options.isDraining()) {
      response.status(503).json({ status: 'draining', checks: {} })
      return
    }
    const checks = await check()
    const isReady = Object.values(checks).every(({ required, state }) => !required || state !== 'failed')
    response.status(isReady ? 200 : 503).json({ status: isReady ? 'ready' : 'not_ready', checks })
  }
}

type Checks = Readonly<Record<string, Check>>

/** A check that hangs or throws is a check that fails. */
async function withTimeout({ health, onFault }: AdminOptions): Promise<Checks> {
  let timer: NodeJS.Timeout | undefined
  const failed = (detail: string): Checks => ({ health: { state: 'failed', required: true, detail } })
  const late = new Promise<Checks>((resolve) => {
    timer = setTimeout(() => resolve(failed('the checks did not finish in time')), HEALTH_TIMEOUT_MS)
  })
  try {
    return await Promise.race([health(), late])
  } catch (error) {
    onFault(error)
    return failed('the checks could not be made')
  } finally {
    clearTimeout(timer)
  }
}

function requireAdmin(options: AdminOptions): RequestHandler {
  return async (request, response, next) => {
    const clientIp = request.socket.remoteAddress ?? ''
    try {
      const principal = await options.authenticate(readCredential(request), clientIp)
      if (!principal.scopes.includes(ADMIN_SCOPE)) {
        return problem(response, 403, `A key with the scope ${ADMIN_SCOPE} is needed`)
      }
    } catch (thrown) {
      return refuse(response, thrown, options.onFault)
    }
    next()
  }
}

/** The one credential of a request; two of them, or one twice, are none. */
function readCredential(request: IncomingMessage): Credential | null {
  const bearer = request.headersDistinct['authorization'] ?? []
  const apiKey = request.headersDistinct['x-api-key'] ?? []
  if (bearer.length + apiKey.length !== 1) return null
  const [header] = bearer
  if (header === undefined) return { scheme: 'api_key', secret: apiKey[0] ?? '' }
  const match = /^Bearer +([^\s]+) *$/i.exec(header)
  return match === null ? null : { scheme: 'bearer', secret: match[1] ?? '' }
}

function refuse(response: Response, thrown: unknown, onFault: (error: unknown) => void): void {
  const error = toGatewayError(thrown)
  const { status, message } = ENDINGS[error.kind]
  if (error.kind === 'internal_error') onFault(thrown)
  if (error.kind === 'unauthenticated') response.set('www-authenticate', 'Bearer')
  const wait = error.data['retryAfterSeconds']
  if (typeof wait === 'number') response.set('retry-after', String(wait))
  problem(response, status, message)
}

function faults(onFault: (error: unknown) => void): ErrorRequestHandler {
  // Express knows an error handler by its four parameters.
  return (error, _request, response, _next) => {
    onFault(error)
    if (response.headersSent) {
      response.destroy()
      return
    }
    problem(response, 500, 'Internal error')
  }
}

function problem(response: Response, status: number, title: string): void {
  response
    .status(status)
    .type('application/problem+json')
    .send(JSON.stringify({ type: 'about:blank', status, title }))
}

async function bind(
  server: Server,
  listen: { readonly host: string; readonly port: number },
): Promise<{ host: string; port: number }> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host: listen.host, port: listen.port }, () => {
      server.off('error', reject)
      resolve()
    })
  })
  const address = server.address()
  if (address === null || typeof address === 'string') return listen
  return { host: address.address, port: address.port }
}
