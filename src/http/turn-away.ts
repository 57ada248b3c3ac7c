/** The answer to attempts that are turned away at the door: rendered once, because then there is the least time. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { GatewayError } from '../errors.ts'
import { openCall } from '../gateway/open-call.ts'
import type { RequestHead } from '../gateway/types.ts'
import { announcesBody, discardBody } from './body.ts'
import { replyRefusal } from './reply.ts'

/** Who is handed on to the spine, and who keeps the record of the others. */
export interface Doorman {
  /** Whether one more attempt is handed on; asked once for each. */
  handsOn(): boolean
  /** Takes in one that was not; returns its request id. */
  turnedAway(head: RequestHead): string
}

/** A body of at most so many bytes is read over, so that the connection can be kept; of a larger one, so much at most. */
const KEPT_BODY_BYTES = 65_536
const DISCARD = { maxBytes: 1024 * 1024, timeoutMs: 1000 }

/** Stands for the request id in the rendered answer. */
const PLACE = '00000000-0000-0000-0000-000000000000'

interface Rendered {
  readonly status: number
  /** Name, value, name, value; without the id. */
  readonly headers: readonly string[]
  readonly before: string
  readonly after: string
}

/** Makes the function that answers them. `isLast`: the connection is not to be kept. */
export function createTurnAway(
  doorman: Doorman,
): (request: IncomingMessage, response: ServerResponse, mount: string, isLast: boolean) => void {
  const { status, headers, before, after } = render()
  return (request, response, mount, isLast) => {
    const { socket } = request
    const head = { rawHeaders: [], headers: request.headers, peer: socket.remoteAddress ?? '' }
    const id = doorman.turnedAway({ httpMethod: request.method ?? '', mount, ...head })
    const keeps = !isLast && isShort(request)
    const ends = keeps ? [] : ['connection', 'close']
    // Errors of the connection are its client's absence.
    response.on('error', () => undefined)
    response.writeHead(status, ['x-request-id', id, ...headers, ...ends])
    const body = `${before}${id}${after}`
    if (keeps || !announcesBody(request)) response.end(body)
    else {
      response.write(body)
      void discardBody(request, DISCARD).then(() => response.end())
    }
    // Asking for more without reading what was answered: nothing is kept for such a client.
    if (socket.writableNeedDrain) socket.destroy()
  }
}

function isShort({ headers }: IncomingMessage): boolean {
  if (headers.expect !== undefined || headers['transfer-encoding'] !== undefined) return false
  return Number(headers['content-length'] ?? 0) <= KEPT_BODY_BYTES
}

/** The very answer that the spine would give. */
function render(): Rendered {
  const head = { httpMethod: '', mount: '', rawHeaders: [], headers: {}, peer: '' }
  const nobody = { clock: { nowMs: () => 0, monotonicMs: () => 0 }, newId: () => PLACE }
  const reply = replyRefusal(openCall(nobody, head), new GatewayError('overloaded'))
  const body = reply.message?.toString() ?? ''
  const [before = '', after = ''] = body.split(PLACE)
  const fixed = Object.entries(reply.headers).filter(([name]) => name !== 'x-request-id')
  const length = ['content-length', String(Buffer.byteLength(body))]
  return { status: reply.status, headers: [...fixed.flat(), ...length], before, after }
}
