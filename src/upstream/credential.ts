/**
 * What the gateway shows an upstream to be let in: a credential of its own, which is read or asked for while it runs. What
 * callers present never gets here, and nothing an upstream says decides where a credential is had from or sent to.
 */
import type { Dispatcher } from 'undici'
import { DecoratorHandler } from 'undici'
import type { ClientCredentialsSettings } from './client-credentials.ts'
import { createClientCredentials } from './client-credentials.ts'
import type { TokenFileSettings } from './token-file.ts'
import { createTokenFile } from './token-file.ts'

/** How a credential is had. */
export type CredentialSettings = TokenFileSettings | ClientCredentialsSettings

/** One header field. The value is secret. */
export interface CredentialField {
  readonly name: string
  readonly value: string
}

/** A credential that may change from one request to the next. */
export interface Credential {
  /** The field for a request that is sent now. Throws `upstream_failed`, in words without secrets. */
  field(): Promise<CredentialField>
  /** The upstream answered 401 to this field. Forgets it, so that the next request shows a fresh one. */
  rejected(field: CredentialField): void
  close(): Promise<void>
}

/** What a credential needs around it. */
export interface CredentialParts {
  readonly upstream: string
  readonly settings: CredentialSettings
  /** The upstream's address, which is what a token is for unless the settings say otherwise. */
  readonly url: URL
  /** How long a request for a token may take; calls wait for it. */
  readonly timeoutMs: number
  readonly clock: { nowMs(): number; monotonicMs(): number }
  /** Spreads attempts after a failure: 0 up to 1. */
  readonly random: () => number
  readonly log: CredentialLog
}

/** As much of pino's logger as is needed here. */
export interface CredentialLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

/** Opens nothing and reads nothing yet. */
export function createCredential(parts: CredentialParts): Credential {
  const { settings } = parts
  return settings.kind === 'token_file'
    ? createTokenFile(settings, parts.clock)
    : createClientCredentials({ ...parts, settings })
}

/** Requests of this room have plain objects as headers. */
type PlainHeaders = Readonly<Record<string, string>>

/**
 * Every request of the dispatcher shows the credential. One that is answered 401 is not repeated: the upstream may have
 * acted on it.
 */
export function withCredential(dispatcher: Dispatcher, credential: Credential): Dispatcher {
  return dispatcher.compose((dispatch) => (options, handler) => {
    credential
      .field()
      .then((field) => {
        const headers = { ...(options.headers as PlainHeaders), [field.name]: field.value }
        dispatch({ ...options, headers }, new RefusalHandler(handler, () => credential.rejected(field)))
      })
      .catch((thrown: Error) => handler.onResponseError?.(NO_CONTROLLER, thrown))
    return true
  })
}

/** Notes that an upstream does not accept the credential. */
class RefusalHandler extends DecoratorHandler {
  readonly #handler: Dispatcher.DispatchHandler
  readonly #onRefusal: () => void

  constructor(handler: Dispatcher.DispatchHandler, onRefusal: () => void) {
    super(handler)
    this.#handler = handler
    this.#onRefusal = onRefusal
  }

  onResponseStart(...args: Parameters<NonNullable<Dispatcher.DispatchHandler['onResponseStart']>>): void {
    if (args[1] === 401) this.#onRefusal()
    this.#handler.onResponseStart?.(...args)
  }
}

/** Of a request that was never begun: there is nothing to stop. */
const NO_CONTROLLER: Dispatcher.DispatchController = {
  aborted: true,
  paused: false,
  reason: null,
  abort: () => undefined,
  pause: () => undefined,
  resume: () => undefined,
}
