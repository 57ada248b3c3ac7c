/** Access tokens by the client credentials grant: asked for by one at a time, kept until shortly before they end. [RFC 6749 §4.4] */
import type { GatewayError } from '../errors.ts'
import type { Credential, CredentialField, CredentialParts } from './credential.ts'
import type { IssuedToken, TokenEndpointSettings } from './token-endpoint.ts'
import { createTokenEndpoint, toTokenError } from './token-endpoint.ts'

/** How the gateway proves who it is at a token endpoint. */
export interface ClientCredentialsSettings extends TokenEndpointSettings {
  readonly kind: 'client_credentials'
  readonly scopes: readonly string[]
  /** What the token is for (RFC 8707): an absolute URI, `upstream` = the upstream's own address, null = not said. */
  readonly resource: string | null
  /** Further parameters of the request, such as `audience`. */
  readonly parameters: Readonly<Record<string, string>>
}

/** A token is replaced this share of its life before it ends, and a minute before at the most. */
const EARLY_SHARE = 0.2
const MAX_EARLY_MS = 60_000
/** After a failure nobody asks for this long, twice as long after each further one, and this at the most. */
const FIRST_PAUSE_MS = 500
const MAX_PAUSE_MS = 30_000
/** An upstream that refuses every token must not make the gateway ask for one with every call. */
const REJECTION_PAUSE_MS = 30_000

interface Failure {
  readonly error: GatewayError
  readonly until: number
  /** In a row. */
  readonly count: number
}

/** Makes the credential; no token is fetched yet. */
export function createClientCredentials(
  parts: CredentialParts & { readonly settings: ClientCredentialsSettings },
): Credential {
  return new ClientCredentials(parts)
}

/** A class because a token, the request for the next one and the pause after a failure change together. */
class ClientCredentials implements Credential {
  readonly #parts: CredentialParts
  readonly #endpoint: ReturnType<typeof createTokenEndpoint>
  readonly #parameters: URLSearchParams
  #token: (IssuedToken & { readonly field: CredentialField }) | null = null
  #asking: Promise<CredentialField> | null = null
  #failure: Failure | null = null
  #rejectedAt = Number.NEGATIVE_INFINITY

  constructor(parts: CredentialParts & { readonly settings: ClientCredentialsSettings }) {
    this.#parts = parts
    this.#endpoint = createTokenEndpoint(parts.settings, parts)
    this.#parameters = parametersOf(parts.settings, parts.url)
  }

  async field(): Promise<CredentialField> {
    const token = this.#token
    const now = this.#parts.clock.monotonicMs()
    if (token === null || now >= token.endsAt) return await this.#ask()
    // Those who still have a token do not wait for the next one, and are not harmed when there is none yet.
    if (now >= token.endsAt - earlyMs(token)) this.#ask().catch(() => undefined)
    return token.field
  }

  rejected(field: CredentialField): void {
    const now = this.#parts.clock.monotonicMs()
    if (this.#token?.field !== field || now - this.#rejectedAt < REJECTION_PAUSE_MS) return
    this.#rejectedAt = now
    this.#token = null
    this.#parts.log.warn({ upstream: this.#parts.upstream }, 'an upstream refused its access token')
  }

  close(): Promise<void> {
    return this.#endpoint.close()
  }

  #ask(): Promise<CredentialField> {
    if (this.#asking !== null) return this.#asking
    const failure = this.#failure
    if (failure !== null && this.#parts.clock.monotonicMs() < failure.until)
      return Promise.reject(failure.error)
    this.#asking = this.#fetch().finally(() => {
      this.#asking = null
    })
    return this.#asking
  }

  async #fetch(): Promise<CredentialField> {
    const { upstream, log } = this.#parts
    try {
      const issued = await this.#endpoint.ask(this.#parameters)
      const field = { name: 'authorization', value: `Bearer ${issued.token}` }
      this.#token = { ...issued, field }
      if (this.#failure !== null) log.info({ upstream }, 'the access token of an upstream was issued again')
      this.#failure = null
      return field
    } catch (thrown) {
      const error = toTokenError(thrown)
      if (this.#failure === null)
        log.warn({ upstream, error: error.detail }, 'no access token for an upstream was issued')
      this.#failure = this.#failed(error)
      throw error
    }
  }

  #failed(error: GatewayError): Failure {
    const { clock, random } = this.#parts
    const count = (this.#failure?.count ?? 0) + 1
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** (count - 1), MAX_PAUSE_MS)
    return { error, count, until: clock.monotonicMs() + pauseMs * (0.5 + random() / 2) }
  }
}

function earlyMs({ startedAt, endsAt }: IssuedToken): number {
  return Math.min((endsAt - startedAt) * EARLY_SHARE, MAX_EARLY_MS)
}

function parametersOf(
  { scopes, resource, parameters }: ClientCredentialsSettings,
  url: URL,
): URLSearchParams {
  const asked = new URLSearchParams(parameters)
  if (scopes.length > 0) asked.set('scope', scopes.join(' '))
  // The canonical address of an MCP server has no query. [MCP basic/authorization, "Canonical Server URI"]
  if (resource !== null)
    asked.set('resource', resource === 'upstream' ? `${url.origin}${url.pathname}` : resource)
  return asked
}
