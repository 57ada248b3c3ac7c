/**
 * A Node server for an Express application whose requests and responses are born with Express's prototypes.
 *
 * Express swaps the prototype of both objects on every request. On Node 20 and 22 that costs more than all the rest of
 * a request's handling, because V8 throws away what it has learnt about the two objects. When they already have the
 * prototypes that Express is about to set, its `Object.setPrototypeOf` changes nothing and costs nothing. This rests on
 * Express 5's contract that `app.request` and `app.response` are those prototypes; the test beside this file compares
 * the behaviour with an ordinary Express server. On Node 24 it is merely harmless.
 */

import type { Server, ServerOptions } from 'node:http'
import { createServer, IncomingMessage, ServerResponse } from 'node:http'
import type { ServerOptions as TlsOptions } from 'node:https'
import { createServer as createTlsServer } from 'node:https'
import type { Express } from 'express'
import express from 'express'

/** Takes a request as Node hands it out. */
export type Listener = (request: IncomingMessage, response: ServerResponse) => void

/** The application as a listener: its own call signature wants Express's request type, which ours are when they are born. */
export function toListener(app: Express): Listener {
  return app as unknown as Listener
}

/**
 * Makes the server of an Express application, with TLS when `tls` is given. Call it before the application is mounted
 * or handles anything. `listener` sees requests before the application does and hands on to it.
 */
export function createExpressServer(
  app: Express,
  options: ServerOptions,
  tls: TlsOptions | null,
  listener: Listener = toListener(app),
): Server {
  // Plain `class extends`: variants built with Reflect.construct are slower than what this replaces.
  class ExpressRequest extends IncomingMessage {}
  class ExpressResponse extends ServerResponse {}
  app.request = adopt(app, ExpressRequest.prototype, express.request) as unknown as typeof app.request
  app.response = adopt(app, ExpressResponse.prototype, express.response) as unknown as typeof app.response
  const classes = { IncomingMessage: ExpressRequest, ServerResponse: ExpressResponse }
  if (tls === null) return createServer({ ...options, ...classes }, listener)
  return createTlsServer({ ...options, ...tls, ...classes }, listener) as Server
}

function adopt(app: Express, prototype: object, methods: object): object {
  Object.defineProperties(prototype, Object.getOwnPropertyDescriptors(methods))
  Object.defineProperty(prototype, 'app', {
    configurable: true,
    enumerable: true,
    writable: true,
    value: app,
  })
  return prototype
}
