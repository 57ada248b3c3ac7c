/** Certificates for a test, made by openssl: an authority, a server on loopback, two clients. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface KeyPairFiles {
  readonly certFile: string
  readonly keyFile: string
}

export interface Certificates {
  readonly folder: string
  readonly caFile: string
  /** For 127.0.0.1. */
  readonly server: KeyPairFiles
  /** Signed by the authority; the common name is the argument. */
  client(name: string): KeyPairFiles
  remove(): void
}

/** null where there is no openssl. */
export function makeCertificates(): Certificates | null {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-certificates-'))
  const run = (...args: string[]): void =>
    void execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

  function sign(name: string, extensions: string): KeyPairFiles {
    mkdirSync(join(folder, name))
    const files = { certFile: join(folder, name, 'cert.pem'), keyFile: join(folder, name, 'key.pem') }
    const request = join(folder, name, 'request.pem')
    writeFileSync(join(folder, name, 'extensions'), extensions)
    run('req', '-new', ...newKey, '-subj', `/CN=${name}`, '-keyout', files.keyFile, '-out', request)
    const signer = ['-CA', 'ca.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-days', '1']
    run('x509', '-req', '-in', request, ...signer, '-extfile', `${name}/extensions`, '-out', files.certFile)
    return files
  }

  try {
    run(
      'req',
      '-x509',
      ...newKey,
      '-days',
      '1',
      '-subj',
      '/CN=test authority',
      '-keyout',
      'ca-key.pem',
      '-out',
      'ca.pem',
    )
  } catch {
    rmSync(folder, { recursive: true })
    return null
  }
  return {
    folder,
    caFile: join(folder, 'ca.pem'),
    server: sign('server', 'subjectAltName=IP:127.0.0.1'),
    client: (name) => sign(name, 'extendedKeyUsage=clientAuth'),
    remove: () => rmSync(folder, { recursive: true }),
  }
}
