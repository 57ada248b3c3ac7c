/** How the gateway proves itself to an upstream: the settings, their rules, and what becomes of them. */
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import type { SettingPath } from './document.ts'
import { isLoopback } from './listen.ts'
import { readSecretFile } from './secret-file.ts'
import type { ClientProofConfig, UpstreamConfig, UpstreamCredentialConfig } from './types.ts'

/** `credential` of an upstream under its names in gateway.yaml. */
export interface CredentialSettings {
  readonly token_file: string | null
  readonly header: string
  readonly scheme: string | null
  readonly oauth: OAuthSettings | null
}

interface OAuthSettings {
  readonly token_url: string
  readonly client_id: string
  readonly client_secret: string | null
  readonly client_secret_file: string | null
  readonly client_secret_method: 'client_secret_basic' | 'client_secret_post'
  readonly private_key_file: string | null
  readonly key_id: string | null
  readonly assertion_audience: string | null
  readonly scopes: readonly string[]
  readonly resource: string | null
  readonly parameters: Readonly<Record<string, string>>
}

/** `tls` of an upstream under its names in gateway.yaml. */
export interface UpstreamTlsSettings {
  readonly ca_file: string | null
  readonly cert_file: string | null
  readonly key_file: string | null
}

/** One upstream as far as these rules concern it. */
interface Subject {
  /** null = a stdio server, which has neither. */
  readonly url: string | null
  readonly headers: Readonly<Record<string, string>>
  readonly credential: CredentialSettings | null
  readonly tls: UpstreamTlsSettings | null
}

/** Told of a broken rule; the path begins at the upstream. */
type Complain = (path: SettingPath, part: 'key' | 'value', message: string, hint: string | null) => void

export function checkCredential({ url, headers, credential }: Subject, complain: Complain): void {
  if (credential === null || url === null) return
  const { token_file, oauth } = credential
  if ((token_file === null) === (oauth === null)) {
    complain(['credential'], 'key', 'must hold either token_file or oauth', null)
    return
  }
  const header = oauth === null ? credential.header.toLowerCase() : 'authorization'
  if (Object.keys(headers).some((name) => name.toLowerCase() === header))
    complain(['headers', header], 'key', 'is set by the credential as well', 'Keep one of them')
  if (!isPrivate(url)) complain(['url'], 'value', 'would carry a credential in the clear', 'Use https')
  if (token_file !== null) checkReadable(['credential', 'token_file'], token_file, complain)
  if (oauth !== null) checkOAuth(oauth, complain)
}

/** Parameters that other settings stand for, or that belong to other grants. */
const RESERVED_PARAMETER =
  /^(grant_type|client_id|client_secret|client_assertion(_type)?|scope|resource|code|refresh_token|assertion|username|password)$/

function checkOAuth(oauth: OAuthSettings, complain: Complain): void {
  const at = (name: string): SettingPath => ['credential', 'oauth', name]
  if (!isPrivate(oauth.token_url))
    complain(at('token_url'), 'value', 'would carry a secret in the clear', 'Use https')
  const { client_secret, client_secret_file, private_key_file } = oauth
  const proofs = [client_secret, client_secret_file, private_key_file].filter((proof) => proof !== null)
  if (proofs.length !== 1) {
    const hint = 'Give one of client_secret, client_secret_file and private_key_file'
    complain(at('client_id'), 'value', 'needs exactly one proof', hint)
  }
  for (const name of ['client_secret_file', 'private_key_file'] as const) {
    if (oauth[name] !== null) checkReadable(at(name), oauth[name], complain)
  }
  for (const name of Object.keys(oauth.parameters)) {
    if (RESERVED_PARAMETER.test(name))
      complain([...at('parameters'), name], 'key', 'is not for this place', 'Use the setting for it')
  }
}

export function checkUpstreamTls({ url, tls }: Subject, complain: Complain): void {
  if (tls === null || url === null) return
  if (!url.toLowerCase().startsWith('https:'))
    complain(['tls'], 'key', 'given for an address without TLS', 'Use an https url, or remove it')
  if ((tls.cert_file === null) !== (tls.key_file === null)) {
    complain(['tls'], 'key', 'needs cert_file and key_file together', null)
    return
  }
  const texts: { ca?: string; cert?: string; key?: string } = {}
  for (const name of ['ca', 'cert', 'key'] as const) {
    const file = tls[`${name}_file`]
    const text = file === null ? null : readPem(['tls', `${name}_file`], file, complain)
    if (text !== null) texts[name] = text
  }
  try {
    createSecureContext(texts)
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'unknown reason'
    complain(['tls'], 'key', `cannot be used together (${code})`, 'The key must be that of the certificate')
  }
}

function readPem(path: SettingPath, file: string, complain: Complain): string | null {
  try {
    const text = readFileSync(file, 'utf8')
    if (text.includes('-----BEGIN ')) return text
    complain(path, 'value', 'is not a PEM file', null)
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown reason'
    complain(path, 'value', `cannot read ${file} (${code})`, null)
  }
  return null
}

function checkReadable(path: SettingPath, file: string, complain: Complain): void {
  try {
    readSecretFile(file)
  } catch (cause) {
    complain(path, 'value', cause instanceof Error ? cause.message : 'cannot be read', null)
  }
}

/** Nobody can listen on the way. */
function isPrivate(address: string): boolean {
  const { protocol, hostname } = new URL(address)
  return protocol === 'https:' || isLoopback(hostname.replace(/^\[|\]$/g, ''))
}

/** Checked settings -> what the room of upstreams takes. */
export function toCredential({
  token_file,
  header,
  scheme,
  oauth,
}: CredentialSettings): UpstreamCredentialConfig {
  if (oauth !== null) {
    return {
      kind: 'client_credentials',
      tokenUrl: oauth.token_url,
      clientId: oauth.client_id,
      proof: toProof(oauth),
      scopes: oauth.scopes,
      resource: oauth.resource,
      parameters: oauth.parameters,
    }
  }
  if (token_file === null) throw new TypeError('a credential passed the rules and is none')
  return { kind: 'token_file', file: token_file, header: header.toLowerCase(), scheme }
}

function toProof(oauth: OAuthSettings): ClientProofConfig {
  const { client_secret, client_secret_file, client_secret_method: method, private_key_file } = oauth
  if (client_secret !== null) return { kind: 'secret', secret: client_secret, method }
  if (client_secret_file !== null) return { kind: 'secret_file', file: client_secret_file, method }
  if (private_key_file === null) throw new TypeError('a client passed the rules and has no proof')
  const { key_id: keyId, assertion_audience: audience } = oauth
  return { kind: 'private_key', file: private_key_file, keyId, audience }
}

export function toUpstreamTls({ ca_file, cert_file, key_file }: UpstreamTlsSettings): UpstreamConfig['tls'] {
  return {
    caFile: ca_file,
    client: cert_file === null || key_file === null ? null : { certFile: cert_file, keyFile: key_file },
  }
}
