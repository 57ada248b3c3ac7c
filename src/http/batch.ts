/**
 * One exchange shared by the messages of a JSON-RPC batch (2025-03-26 `basic/transports`): each of them has an exchange of
 * its own to be judged, forwarded and recorded by, and one reply goes to the client when all have ended.
 */
import type { CallSignal } from '../call-signal.ts'
import type { Exchange, Reply, ReplyHead, SseEvent } from '../gateway/types.ts'

/** One message of a batch. */
export interface BatchElement {
  readonly body: Buffer
  /** Notifications and responses are not answered. */
  readonly isRequest: boolean
}

/** The exchanges of the elements, in their order. `exchange` must not be used for anything else from now on. */
export function shareExchange(exchange: Exchange, elements: readonly BatchElement[]): readonly Exchange[] {
  const shared = new SharedReply(exchange, elements)
  return elements.map((element, index) => new ElementExchange(exchange, element, index, shared))
}

/** What becomes of the reply: a JSON array, or a stream as soon as the answer to one element is one. */
class SharedReply {
  readonly #exchange: Exchange
  readonly #elements: readonly BatchElement[]
  readonly #replies: (Reply | undefined)[]
  #left: number

  constructor(exchange: Exchange, elements: readonly BatchElement[]) {
    this.#exchange = exchange
    this.#elements = elements
    this.#replies = elements.map(() => undefined)
    this.#left = elements.length
  }

  open(head: ReplyHead): void {
    if (this.#exchange.opened) return
    this.#exchange.open(head)
    for (const [index, reply] of this.#replies.entries()) {
      // Their order is kept; that the client takes them slowly is felt by whoever writes next.
      if (reply !== undefined) void this.#writeAnswer(index, reply)
    }
  }

  async finish(index: number, reply: Reply): Promise<void> {
    this.#replies[index] = reply
    this.#left -= 1
    if (this.#left > 0) {
      if (this.#exchange.opened) await this.#writeAnswer(index, reply)
      return
    }
    await this.#exchange.finish(this.#exchange.opened ? this.#answerOf(index, reply) : this.#whole())
  }

  async #writeAnswer(index: number, reply: Reply): Promise<void> {
    const { message, frame } = this.#answerOf(index, reply)
    if (message === null) return
    const fields = frame ?? { id: null, event: 'message', retry: null }
    await this.#exchange.write({ ...fields, raw: Buffer.alloc(0), data: message.toString('utf8') })
  }

  /** A refused notification has no id that the error could belong to. */
  #answerOf(index: number, reply: Reply): Reply {
    return this.#elements[index]?.isRequest === true ? reply : { ...reply, message: null }
  }

  #whole(): Reply {
    const replies = this.#replies.filter((reply) => reply !== undefined)
    const answers = replies.filter((_, index) => this.#elements[index]?.isRequest === true)
    const first = replies[0] as Reply
    // Accepted, or the first refusal: what a single notification would have got.
    if (answers.length === 0) return replies.find((reply) => reply.status >= 400) ?? first
    // A request without a message is the upstream's word on the session: that it has ended.
    return answers.find((reply) => reply.message === null) ?? arrayOf(answers)
  }
}

/** One status and one head for all, where they differ: those of a batch that was worked on. */
function arrayOf(answers: readonly Reply[]): Reply {
  const [first, ...others] = answers as [Reply, ...Reply[]]
  const isSame = others.every(({ status, inBand }) => status === first.status && inBand === first.inBand)
  const shared = Object.entries(first.headers).filter(([name, value]) =>
    others.every(({ headers }) => headers[name] === value),
  )
  const parts = answers.flatMap(({ message }, index) => [
    Buffer.from(index === 0 ? '[' : ','),
    message ?? Buffer.alloc(0),
  ])
  return {
    status: isSame ? first.status : 200,
    inBand: isSame && first.inBand === true,
    headers: { ...Object.fromEntries(shared), 'content-type': 'application/json' },
    message: Buffer.concat([...parts, Buffer.from(']')]),
    frame: null,
  }
}

class ElementExchange implements Exchange {
  readonly head: Exchange['head']
  readonly #exchange: Exchange
  readonly #body: Buffer
  readonly #index: number
  readonly #shared: SharedReply
  #opened = false

  constructor(exchange: Exchange, { body }: BatchElement, index: number, shared: SharedReply) {
    // Whoever counts attempts by their heads counts each element.
    this.head = { ...exchange.head }
    this.#exchange = exchange
    this.#body = body
    this.#index = index
    this.#shared = shared
  }

  get signal(): CallSignal {
    return this.#exchange.signal
  }

  get opened(): boolean {
    return this.#opened
  }

  async readBody(): Promise<Buffer> {
    return this.#body
  }

  async peekBody(maxBytes: number): Promise<Buffer | null> {
    return this.#body.length > maxBytes ? null : this.#body
  }

  open(head: ReplyHead): void {
    this.#opened = true
    this.#shared.open(head)
  }

  write(event: SseEvent): Promise<void> {
    return this.#exchange.write(event)
  }

  finish(reply: Reply): Promise<void> {
    return this.#shared.finish(this.#index, reply)
  }
}
