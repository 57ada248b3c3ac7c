/** What makes the audit log provable: the key that signs, the places outside the database. */
import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { join } from 'node:path'
import type { Signer } from '../audit/signing.ts'
import { createSigner } from '../audit/signing.ts'
import { loadOrMakeFile } from '../config/own-secret.ts'
import type { Config } from '../config/types.ts'
import { UsageError } from '../errors.ts'

/** Where the key of an embedded database stands. */
export function signingKeyFile(home: string): string {
  return join(home, 'audit-signing-key.pem')
}

/**
 * The configured key; with an embedded database one that is made beside it at the first start; else null. Throws
 * UsageError `config` when it is no Ed25519 private key.
 */
export async function loadSigner(config: Config, home: string | null): Promise<Signer | null> {
  const { signingKey } = config.audit
  if (signingKey === null && home === null) return null
  const pem = signingKey ?? (await loadOrMakeFile(signingKeyFile(home ?? ''), makeKey))
  try {
    return createSigner(createPrivateKey(pem))
  } catch (cause) {
    const what = signingKey === null ? signingKeyFile(home ?? '') : 'audit.signing_key'
    throw new UsageError('config', `${what} holds no Ed25519 private key in PEM form.`, { cause })
  }
}

function makeKey(): string {
  return String(generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }))
}
