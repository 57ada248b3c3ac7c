/** Keys that sign policies and that verify them. A foundation every room may use. */
import type { KeyObject } from 'node:crypto'
import { createPrivateKey, createPublicKey } from 'node:crypto'

/** A key and the one algorithm it is used with. */
export interface SigningKey {
  readonly alg: 'ES256' | 'RS256'
  readonly key: KeyObject
}

const MIN_RSA_BITS = 2048
/** Reads a PEM public key. Throws an Error that says what is wrong with it, never its content. */
export function parsePublicKey(pem: string): SigningKey {
  if (pem.includes('PRIVATE KEY')) throw new Error('it holds a private key, which belongs to whoever signs')
  return toSigningKey(() => createPublicKey(pem), 'PEM public key')
}

/** Reads a PEM private key without a passphrase. Throws an Error that says what is wrong with it, never its content. */
export function parsePrivateKey(pem: string): SigningKey {
  return toSigningKey(() => createPrivateKey(pem), 'PEM private key without a passphrase')
}

/** The other half of a private key. */
export function publicKeyOf({ alg, key }: SigningKey): SigningKey {
  return { alg, key: createPublicKey(key) }
}

function toSigningKey(read: () => KeyObject, wanted: string): SigningKey {
  let key: KeyObject
  try {
    key = read()
  } catch {
    // What the library says may repeat parts of the text.
    throw new Error(`it is no ${wanted}`)
  }
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {}
  if (key.asymmetricKeyType === 'ec' && namedCurve === 'prime256v1') return { alg: 'ES256', key }
  if (key.asymmetricKeyType === 'rsa' && modulusLength >= MIN_RSA_BITS) return { alg: 'RS256', key }
  throw new Error(`it is neither an EC key on P-256 nor an RSA key of ${MIN_RSA_BITS} bits or more`)
}
