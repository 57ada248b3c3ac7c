/**
 * JSON-RPC with one stdio server: many requests at the same time, each under a number of ours, answered in any order. The
 * number also stands in for the client's progress token and subscription id, so that what two clients call the same is told
 * apart.
 */
import { GatewayError } from '../../errors.ts'
import type { UpstreamLog } from '../upstream.ts'
import type { ChildSurroundings, StdioChild, StdioCommand } from './child.ts'
import { fault, startChild } from './child.ts'
import type { ChildMessage } from './message.ts'
import {
  idFromEnds,
  readMessage,
  toChildCancel,
  toChildRequest,
  toClientNotification,
  toClientResponse,
} from './message.ts'

/** Takes what a server says about one request, with the client's own id and token in it. */
export interface Asker {
  /** The exact JSON text of the client's id. */
  readonly idText: string
  onNotification(text: string): void
  /** Last call. */
  onResponse(text: string, parsed: Readonly<Record<string, unknown>>): void
  /** Last call: there will be no response. */
  onFailure(reason: GatewayError): void
}

/** A request or notification that belongs to no request under way. */
export type Unsolicited = Exclude<ChildMessage, { kind: 'response' }>

/** Who is told what belongs to no request, and the end. */
export interface LinkHooks {
  readonly onUnsolicited: (message: Unsolicited) => void
  /** After all requests have failed. */
  readonly onEnd: (reason: GatewayError) => void
}

/** JSON-RPC with one server. */
export interface Link {
  /** Sends a request; returns our number of it. Throws `upstream_failed`. */
  ask(text: string, asker: Asker): number
  /** Sends anything else as it is. Throws `upstream_failed`. */
  tell(text: string): void
  /** Nobody waits for this request any more: tells the server, in the words of the client if there are any. */
  cancel(id: number, text?: string): void
  /** Requests it is working on. */
  inFlight(): number
  close(): Promise<void>
}

/** What a link is made with. */
export interface LinkOptions {
  readonly command: StdioCommand
  readonly surroundings: ChildSurroundings
  readonly hooks: LinkHooks
}

interface Pending {
  readonly asker: Asker
  readonly tokenText: string | null
}

/** Lines of its standard output that are no messages, until it is given up. Some servers print a greeting. */
const MAX_GARBAGE = 1000
/** Of these, as many are shown. */
const SHOWN_GARBAGE = 3
/** A server that leaves a ping unanswered so long, and says nothing else, hangs. */
const PING_TIMEOUT_MS = 5000

/** Starts the server. A server that does not start fails what it is asked; some do so here (`upstream_failed`). */
export function openLink(options: LinkOptions): Link {
  return new ChildLink(options)
}

class ChildLink implements Link {
  readonly #child: StdioChild
  readonly #hooks: LinkHooks
  readonly #upstream: string
  readonly #log: UpstreamLog
  readonly #pending = new Map<number, Pending>()
  #lastId = 0
  #garbage = 0
  #lines = 0
  #doubt: NodeJS.Timeout | null = null

  constructor({ command, surroundings, hooks }: LinkOptions) {
    this.#hooks = hooks
    this.#upstream = command.upstream
    this.#log = surroundings.log
    this.#child = startChild(command, surroundings, {
      onLine: (line) => this.#onLine(line),
      onOverlong: (head, tail) => this.#onOverlong(head, tail, command.maxMessageBytes),
      onEnd: (reason) => this.#onEnd(reason),
    })
  }

  ask(text: string, asker: Asker): number {
    const id = this.#nextId()
    const request = toChildRequest(text, id)
    this.#child.send(request.text)
    this.#pending.set(id, { asker, tokenText: request.tokenText })
    return id
  }

  tell(text: string): void {
    this.#child.send(text)
  }

  cancel(id: number, text?: string): void {
    if (!this.#pending.delete(id)) return
    const own = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":${id}}}`
    try {
      this.#child.send(text === undefined ? own : toChildCancel(text, id))
      if (text === undefined) this.#doubtIt()
    } catch {
      // It has ended, or does not read: either way it works on nothing.
      if (text === undefined) this.#doubtIt()
    }
  }

  inFlight(): number {
    return this.#pending.size
  }

  close(): Promise<void> {
    return this.#child.close()
  }

  #nextId(): number {
    this.#lastId += 1
    return this.#lastId
  }

  #onLine(line: Buffer): void {
    this.#lines += 1
    const message = readMessage(line)
    if (message === null) this.#onGarbage(line)
    else if (message.kind === 'response') this.#onResponse(message)
    else if (message.kind === 'request' && message.method === 'ping')
      this.#tryTell(`{"jsonrpc":"2.0","id":${message.idText},"result":{}}`)
    else if (!this.#onAbout(message)) this.#hooks.onUnsolicited(message)
  }

  #onResponse({ text, parsed, id }: Extract<ChildMessage, { kind: 'response' }>): void {
    const pending = typeof id === 'number' ? this.#take(id) : null
    // Late answers to what was cancelled are to be expected.
    pending?.asker.onResponse(toClientResponse(text, pending.asker.idText), parsed)
  }

  /** A notification about a request under way goes to who asked; about any other request of ours, to nobody. */
  #onAbout(message: Unsolicited): boolean {
    if (message.kind !== 'notification' || typeof message.about !== 'number') return false
    const pending = this.#pending.get(message.about)
    if (pending === undefined) return message.about <= this.#lastId
    const { idText } = pending.asker
    if (message.method === 'notifications/cancelled') {
      this.#pending.delete(message.about)
      pending.asker.onFailure(
        new GatewayError('upstream_failed', { detail: 'it ended what it had been asked' }),
      )
    } else {
      pending.asker.onNotification(
        toClientNotification(message.text, { idText, tokenText: pending.tokenText }),
      )
    }
    return true
  }

  #onOverlong(head: Buffer, tail: Buffer, maxBytes: number): void {
    this.#lines += 1
    const id = idFromEnds(head, tail)
    const detail = `its answer is larger than ${maxBytes} bytes`
    const pending = id === null ? null : this.#take(id)
    if (pending === null) this.#onGarbage(head)
    else pending.asker.onFailure(new GatewayError('upstream_failed', { detail }))
  }

  #onGarbage(line: Buffer): void {
    this.#garbage += 1
    if (this.#garbage <= SHOWN_GARBAGE) {
      const fields = { upstream: this.#upstream, pid: this.#child.pid, bytes: line.length }
      this.#log.warn(fields, 'a stdio server wrote something to its standard output that is no message')
    }
    if (this.#garbage > MAX_GARBAGE)
      this.#child.fail(fault(`it wrote ${this.#garbage} lines that are no messages`))
  }

  #take(id: number): Pending | null {
    const pending = this.#pending.get(id) ?? null
    this.#pending.delete(id)
    return pending
  }

  #tryTell(text: string): void {
    try {
      this.#child.send(text)
    } catch {
      // It does not read: what waits for it has deadlines of its own.
    }
  }

  /**
   * A request was given up: does the server still live? While it works on others that is not asked, since some work on one
   * thing at a time.
   */
  #doubtIt(): void {
    if (this.#doubt !== null) return
    const seen = this.#lines
    this.#tryTell(`{"jsonrpc":"2.0","id":${this.#nextId()},"method":"ping"}`)
    this.#doubt = setTimeout(() => {
      this.#doubt = null
      if (this.#lines > seen) return
      if (this.#pending.size > 0) this.#doubtIt()
      else this.#child.fail(fault(`it did not answer a ping within ${PING_TIMEOUT_MS} ms`))
    }, PING_TIMEOUT_MS)
    this.#doubt.unref()
  }

  #onEnd(reason: GatewayError): void {
    if (this.#doubt !== null) clearTimeout(this.#doubt)
    const waiting = [...this.#pending.values()]
    this.#pending.clear()
    for (const { asker } of waiting) asker.onFailure(reason)
    this.#hooks.onEnd(reason)
  }
}
