import type { AddressInfo, Socket } from 'node:net'
import { connect } from 'node:net'
import type { CallSignal } from '../../src/call-signal.ts'
import type { Call, Exchange, Message, Principal, Reply, RequestHead } from '../../src/gateway/types.ts'
import type { FrontDoor, FrontDoorLimits, FrontDoorOptions } from '../../src/http/server.ts'
import { createFrontDoor } from '../../src/http/server.ts'
import { callAt, toolsCallWith } from '../support/call.ts'

export const PRINCIPAL: Principal = {
  id: 'alice',
  kind: 'user',
  roles: ['developer'],
  tenant: 'acme',
  teams: [],
  scopes: [],
  claims: {},
  authMethod: 'api_key',
  apiKeyId: 'k1',
}

/** A request head from lower-case headers. */
export function headOf(
  httpMethod: string,
  headers: Record<string, string>,
  rawHeaders?: readonly string[],
): RequestHead {
  return {
    httpMethod,
    mount: 'github',
    headers,
    rawHeaders: rawHeaders ?? Object.entries(headers).flat(),
    peer: '127.0.0.1',
  }
}

/** An exchange whose body has been received. */
export function exchangeOf(head: RequestHead, body: Buffer | string): Exchange {
  const bytes = Buffer.from(body)
  return {
    head,
    signal: new AbortController().signal,
    readBody: async () => bytes,
    peekBody: async (maxBytes) => (bytes.length > maxBytes ? null : bytes),
    open: () => undefined,
    opened: false,
    write: async () => undefined,
    finish: async () => undefined,
  }
}

export function callOf(message: Partial<Message> | null, head = headOf('POST', {})): Call {
  return callAt('github', {
    ...{ id: 'row-1', requestId: 'req-1', head, principal: PRINCIPAL },
    message: message === null ? null : toolsCallWith({ idText: '7', ...message }),
  })
}

export function jsonReply(value: unknown, status = 200): Reply {
  return {
    status,
    headers: { 'content-type': 'application/json' },
    message: Buffer.from(JSON.stringify(value)),
    frame: null,
  }
}

export interface OpenDoor {
  readonly door: FrontDoor
  readonly address: AddressInfo
  readonly url: string
  readonly logged: string[]
}

const open: FrontDoor[] = []

/** A listening front door on a free port; closed by {@link closeDoors}. */
export async function openDoor(
  spine: FrontDoorOptions['spine'],
  limits: Partial<FrontDoorLimits> = {},
  tls: FrontDoorOptions['tls'] = null,
): Promise<OpenDoor> {
  const logged: string[] = []
  let ids = 0
  const door = createFrontDoor({
    spine,
    limits,
    tls: tls ?? null,
    newRequestId: () => `outside-${++ids}`,
    log: {
      debug: (fields, text) => void logged.push(`debug ${text} ${JSON.stringify(fields)}`),
      error: (_fields, text) => void logged.push(`error ${text}`),
    },
  })
  open.push(door)
  const address = await door.listen('127.0.0.1', 0)
  return { door, address, url: `http://127.0.0.1:${address.port}`, logged }
}

export async function closeDoors(): Promise<void> {
  await Promise.all(open.splice(0).map((door) => door.close(0)))
}

export interface RawClient {
  readonly socket: Socket
  /** Everything received so far. */
  text(): string
  /** Resolves when what was received matches. */
  until(pattern: RegExp): Promise<string>
  /** Resolves with everything received when the connection has closed. */
  closed(): Promise<string>
}

/** A raw TCP client: says exactly these bytes. */
export async function rawClient(address: AddressInfo, bytes = ''): Promise<RawClient> {
  const socket = connect(address.port, '127.0.0.1')
  let received = ''
  socket.setEncoding('latin1')
  socket.on('data', (chunk: string) => {
    received += chunk
  })
  socket.on('error', () => undefined)
  await new Promise<void>((resolve) => socket.once('connect', resolve))
  if (bytes !== '') socket.write(bytes, 'latin1')
  return {
    socket,
    text: () => received,
    until: (pattern) =>
      new Promise((resolve, reject) => {
        const check = () => {
          if (!pattern.test(received)) return
          socket.off('data', check).off('close', fail)
          resolve(received)
        }
        const fail = () => reject(new Error(`closed before ${pattern}: ${received.slice(0, 400)}`))
        socket.on('data', check).on('close', fail)
        check()
      }),
    closed: () =>
      new Promise((resolve) => {
        if (socket.destroyed) resolve(received)
        else socket.once('close', () => resolve(received))
      }),
  }
}

/** The head and body of a POST as raw bytes. */
export function rawPost(body: string, headers: readonly string[] = [], path = '/mcp/github'): string {
  const lines = [
    `POST ${path} HTTP/1.1`,
    'Host: localhost',
    'Content-Type: application/json',
    'Accept: application/json, text/event-stream',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...headers,
  ]
  return `${lines.join('\r\n')}\r\n\r\n${body}`
}

/** Resolves when the signal is aborted. */
export function aborted(signal: CallSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve())
  })
}

/** A promise and the function that resolves it. */
export function gate<T = void>(): { readonly promise: Promise<T>; open(value: T): void } {
  let release: (value: T) => void = () => undefined
  const promise = new Promise<T>((resolve) => {
    release = resolve
  })
  return { promise, open: (value) => release(value) }
}
