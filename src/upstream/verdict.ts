/** What became of an exchange -> what that says about the upstream. Pure. */
import { GatewayError } from '../errors.ts'
import { ConnectionFault } from './exchange.ts'

/**
 * - works    it has answered, whatever the answer: a refusal (4xx) or a JSON-RPC error is about the request
 * - fails    no connection, a connection that broke, no answer in time, 5xx
 * - unclear  neither: the caller went away, or what came back is not to be understood
 */
export type Verdict = 'works' | 'fails' | 'unclear'

/** `status` is the HTTP status it answered with; null = none was seen. */
export function verdictOn(thrown: unknown, status: number | null): Verdict {
  if (!(thrown instanceof GatewayError)) return 'unclear'
  if (thrown.kind === 'upstream_timeout' || thrown instanceof ConnectionFault) return 'fails'
  if (thrown.kind !== 'upstream_failed') return 'unclear'
  if (status === null) return 'unclear'
  if (status >= 500) return 'fails'
  return status >= 300 ? 'works' : 'unclear'
}
