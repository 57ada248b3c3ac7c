/** One request for an access token. The endpoint stands in the configuration; nothing is discovered. [RFC 6749 §3.2] */
import type { webcrypto } from 'node:crypto'
import { createPrivateKey } from 'node:crypto'
import type { AuthorizationServer, Client, ClientAuth } from 'oauth4webapi'
import {
  allowInsecureRequests,
  ClientSecretBasic,
  ClientSecretPost,
  clientCredentialsGrantRequest,
  customFetch,
  modifyAssertion,
  OperationProcessingError,
  PrivateKeyJwt,
  processClientCredentialsResponse,
  ResponseBodyError,
  UnsupportedOperationError,
} from 'oauth4webapi'
import { Pool } from 'undici'
import { GatewayError } from '../errors.ts'
import { connectionError } from './exchange.ts'
import { createFreshFiles } from './fresh-files.ts'
import { failed } from './head-plan.ts'

/** Where tokens are issued, and how the gateway proves which client it is. */
export interface TokenEndpointSettings {
  /** https, or http on loopback. */
  readonly tokenUrl: string
  readonly clientId: string
  readonly proof: ClientProof
}

/** Files are read for each request, so that a replaced one is used at once. */
export type ClientProof =
  | { readonly kind: 'secret'; readonly secret: string; readonly method: SecretMethod }
  | { readonly kind: 'secret_file'; readonly file: string; readonly method: SecretMethod }
  /** `private_key_jwt` (RFC 7523). `audience` null = the token endpoint. */
  | {
      readonly kind: 'private_key'
      readonly file: string
      readonly keyId: string | null
      readonly audience: string | null
    }

/** Names of RFC 7591 §2. */
export type SecretMethod = 'client_secret_basic' | 'client_secret_post'

/** A token, and how long it is good for. */
export interface IssuedToken {
  readonly token: string
  /** Monotonic ms at which it was asked for and at which it is not used any more. */
  readonly startedAt: number
  readonly endsAt: number
}

/** Where tokens are issued. */
export interface TokenEndpoint {
  /** Throws whatever went wrong: see {@link toTokenError}. */
  ask(parameters: URLSearchParams): Promise<IssuedToken>
  close(): Promise<void>
}

const MAX_TIMEOUT_MS = 10_000
const MAX_ANSWER_BYTES = 65_536
/** Of a token whose life nobody tells. */
const DEFAULT_LIFE_S = 300
const MAX_LIFE_S = 86_400
const MAX_TOKEN_LENGTH = 16_384
/** RFC 6750 §2.1, `b64token`. */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/

/** Makes it; nothing is asked yet. */
export function createTokenEndpoint(
  settings: TokenEndpointSettings,
  parts: { readonly clock: { monotonicMs(): number }; readonly timeoutMs: number },
): TokenEndpoint {
  const { clock } = parts
  const timeout = Math.min(parts.timeoutMs, MAX_TIMEOUT_MS)
  const url = new URL(settings.tokenUrl)
  const server: AuthorizationServer = { issuer: url.href, token_endpoint: url.href }
  const client: Client = { client_id: settings.clientId }
  const pool = new Pool(url.origin, {
    connections: 1,
    connect: { timeout, rejectUnauthorized: true },
  })

  return {
    async ask(parameters) {
      const startedAt = clock.monotonicMs()
      const proof = await proofOf(settings, clock)
      const signal = AbortSignal.timeout(timeout)
      const response = await clientCredentialsGrantRequest(server, client, proof, parameters, {
        [customFetch]: (_url, { body, headers }) => post(pool, url, headers, { body: String(body), signal }),
        // http passes the configuration's own rules on loopback only.
        [allowInsecureRequests]: true,
      })
      const issued = await processClientCredentialsResponse(server, client, response)
      const { access_token: token, token_type: type, expires_in: life = DEFAULT_LIFE_S } = issued
      if (type !== 'bearer') throw failed('the token endpoint issued a token that is not a bearer token')
      if (token.length > MAX_TOKEN_LENGTH || !TOKEN.test(token))
        throw failed('the token endpoint issued a token that a header cannot carry')
      return { token, startedAt, endsAt: startedAt + Math.min(life, MAX_LIFE_S) * 1000 }
    },
    close: () => pool.destroy(),
  }
}

async function proofOf(
  { proof, tokenUrl }: TokenEndpointSettings,
  clock: { monotonicMs(): number },
): Promise<ClientAuth> {
  if (proof.kind === 'secret') return secretProof(proof.method, proof.secret)
  const [text = ''] = await createFreshFiles([proof.file], clock).read()
  if (proof.kind === 'secret_file') return secretProof(proof.method, text)
  const { keyId, audience } = proof
  const key = await importPrivateKey(proof.file, text)
  return PrivateKeyJwt(keyId === null ? key : { key, kid: keyId }, {
    [modifyAssertion]: (_header, payload) => {
      payload['aud'] = audience ?? tokenUrl
    },
  })
}

function secretProof(method: SecretMethod, secret: string): ClientAuth {
  return method === 'client_secret_post' ? ClientSecretPost(secret) : ClientSecretBasic(secret)
}

/** RS256 for RSA; ES256, ES384 or ES512 by the curve. */
async function importPrivateKey(file: string, pem: string): Promise<webcrypto.CryptoKey> {
  try {
    const key = createPrivateKey(pem)
    const { namedCurve } = key.asymmetricKeyDetails ?? {}
    const algorithm =
      key.asymmetricKeyType === 'rsa'
        ? { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
        : { name: 'ECDSA', namedCurve: CURVES.get(namedCurve ?? '') ?? '' }
    const der = key.export({ type: 'pkcs8', format: 'der' })
    return await crypto.subtle.importKey('pkcs8', der, algorithm, false, ['sign'])
  } catch {
    throw failed(`${file} is not a PEM file with a private key of kind RSA or EC (P-256, P-384, P-521)`)
  }
}

/** OpenSSL's names of curves -> those of Web Cryptography. */
const CURVES: ReadonlyMap<string, string> = new Map([
  ['prime256v1', 'P-256'],
  ['secp384r1', 'P-384'],
  ['secp521r1', 'P-521'],
])

/** `fetch` for the library: one address, no redirects, a bounded answer with nothing but its type. */
async function post(
  pool: Pool,
  { pathname, search }: URL,
  headers: Record<string, string>,
  { body, signal }: { readonly body: string; readonly signal: AbortSignal },
): Promise<Response> {
  const answer = await pool.request({ method: 'POST', path: `${pathname}${search}`, headers, body, signal })
  const { statusCode: status } = answer
  // A body that is destroyed says so with an event, which nobody else may be there to hear.
  answer.body.on('error', () => {})
  if (status !== 200 && (status < 400 || status > 499)) {
    answer.body.destroy()
    throw failed(`the token endpoint answered ${status >= 300 && status < 400 ? 'a redirect ' : ''}${status}`)
  }
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of answer.body as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > MAX_ANSWER_BYTES)
      throw failed(`the token endpoint answered more than ${MAX_ANSWER_BYTES} bytes`)
    chunks.push(chunk)
  }
  return new Response(Buffer.concat(chunks), {
    status,
    headers: { 'content-type': String(answer.headers['content-type'] ?? '') },
  })
}

/** Errors a token endpoint may name (RFC 6749 §5.2, RFC 8707 §2). Any other text of its own may be anything it knows. */
const OAUTH_ERRORS = new Set([
  'invalid_request',
  'invalid_client',
  'invalid_grant',
  'invalid_scope',
  'invalid_target',
  'unauthorized_client',
  'unsupported_grant_type',
])

/**
 * Why there is no token, in our own words. Without the cause: the library's errors carry the answer, which may hold a token,
 * and what was asked, which holds a secret.
 */
export function toTokenError(thrown: unknown): GatewayError {
  if (thrown instanceof GatewayError) return thrown
  if (thrown instanceof ResponseBodyError) {
    const name = OAUTH_ERRORS.has(thrown.error) ? thrown.error : 'an error of its own'
    return failed(`the token endpoint refused the client (${thrown.status} ${name})`)
  }
  const isUnusable = [OperationProcessingError, UnsupportedOperationError, TypeError].some(
    (kind) => thrown instanceof kind,
  )
  if (isUnusable) return failed('the token endpoint answered something that is not a token')
  if (thrown instanceof Error && thrown.name === 'TimeoutError')
    return failed('the token endpoint did not answer in time')
  return failed(
    `the token endpoint cannot be reached (${connectionError(thrown).detail ?? 'no reason given'})`,
  )
}
