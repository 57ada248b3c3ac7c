/** Makes an upstream's final answer out of what one exchange brings. */
import type { IncomingHttpHeaders } from 'node:http'
import type { AnswerSink } from '../gateway/call.ts'
import type { Message, UpstreamAnswer, UpstreamHead, UpstreamReport } from '../gateway/types.ts'
import type { BodyReader, FoundMessage } from './body-readers.ts'
import { ignoreBody, readEvents, readJsonBody, readRefusal } from './body-readers.ts'
import type { ExchangeReceiver } from './exchange.ts'
import type { HeadPlan } from './head-plan.ts'
import { EVENT_STREAM, failed, JSON_TYPE, planOf } from './head-plan.ts'
import { answerHeaders, issuedSession } from './headers.ts'
import type { Patience } from './patience.ts'
import { errorCode, isToolError } from './response.ts'
import type { StreamLimits } from './stream-watch.ts'

/** What a receiver is made with. */
export interface ReceiverOptions {
  readonly server: string
  readonly message: Message
  readonly sink: AnswerSink
  /** Bound on a JSON answer, and on each event of a stream. */
  readonly maxAnswerBytes: number
  readonly streamLimits: StreamLimits
  /** Told of what a stream brings; null = its messages are not waited for. */
  readonly patience: Patience | null
  /** Milliseconds since the request was sent. */
  elapsedMs(): number
}

/** An {@link ExchangeReceiver} that ends with an answer. */
export interface AnswerReceiver extends ExchangeReceiver {
  /** The final answer, once the exchange has resolved. Throws `upstream_failed`. */
  answer(): UpstreamAnswer
  /** The answer of a long-lived stream that was left or ended from our side; null when none was open. */
  left(): UpstreamAnswer | null
  /** What is known so far, for the record of a call that failed. */
  report(): UpstreamReport
}

interface Started {
  readonly plan: HeadPlan
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: BodyReader
}

/** Makes the receiver of one answer. */
export function createReceiver(options: ReceiverOptions): AnswerReceiver {
  const { message, sink, maxAnswerBytes } = options
  let seenStatus: number | null = null
  let started: Started | null = null
  let bytes = 0

  function bodyOf(plan: HeadPlan, status: number, headers: IncomingHttpHeaders): BodyReader {
    switch (plan.kind) {
      case 'json':
        return readJsonBody(message, maxAnswerBytes)
      case 'stream':
        return readEvents(message, sink, { maxEventBytes: maxAnswerBytes, patience: options.patience })
      case 'refused':
        return readRefusal(status, headers, plan.bare)
      case 'accepted':
        return ignoreBody()
    }
  }

  function headOf({ plan, status, headers }: Started, hasMessage: boolean): UpstreamHead {
    const sessionId = message.method === 'initialize' ? issuedSession(headers) : null
    if (sessionId === undefined) throw failed('it issued a session id that is not visible ASCII')
    const answered = plan.kind === 'accepted' ? plan.status : status
    const type = plan.kind === 'stream' ? EVENT_STREAM : hasMessage ? JSON_TYPE : null
    return {
      status: answered,
      headers: answerHeaders(answered, headers, type),
      sessionId,
      stream: plan.kind === 'stream',
    }
  }

  function report(found: FoundMessage | null = null, sha256: string | null = null): UpstreamReport {
    return {
      server: options.server,
      status: seenStatus,
      jsonRpcError: found === null ? null : errorCode(found.parsed),
      toolIsError: found !== null && isToolError(found.parsed),
      ms: options.elapsedMs(),
      bytes,
      sha256,
    }
  }

  return {
    onHead(status, headers) {
      seenStatus = status
      const plan = planOf(message, status, headers)
      started = { plan, status, headers, body: bodyOf(plan, status, headers) }
      if (plan.kind === 'accepted') return 'done'
      if (plan.kind !== 'stream') return null
      sink.open(headOf(started, true))
      return options.streamLimits
    },
    onChunk(chunk) {
      bytes += chunk.length
      return (started as Started).body.chunk(chunk)
    },
    answer() {
      if (started === null) throw failed('it closed without an answer')
      const { found, sha256 } = started.body.end()
      return {
        head: headOf(started, found !== null),
        message: found?.bytes ?? null,
        parsed: found?.parsed ?? null,
        frame: found?.frame ?? null,
        report: report(found, sha256),
      }
    },
    left() {
      if (started?.plan.kind !== 'stream') return null
      const sha256 = message.kind === 'stream' ? started.body.end().sha256 : null
      const head = headOf(started, false)
      return { head, message: null, parsed: null, frame: null, report: report(null, sha256) }
    },
    report: () => report(),
  }
}
