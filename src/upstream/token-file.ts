/** A credential that somebody else keeps fresh in a file: a sidecar, a mounted secret, a projected service account token. */
import type { Credential } from './credential.ts'
import { createFreshFiles } from './fresh-files.ts'
import { failed } from './head-plan.ts'
import { HEADER_VALUE } from './headers.ts'

/** Which file holds the token, and in which header it goes. */
export interface TokenFileSettings {
  readonly kind: 'token_file'
  /** Absolute path. */
  readonly file: string
  /** Name of the header field, lower-case. */
  readonly header: string
  /** Word before the token, such as `Bearer`; null = the token stands alone. */
  readonly scheme: string | null
}

/** Replace the file by renaming another over it: then a request shows the old token or the new one, never a part. */
export function createTokenFile(settings: TokenFileSettings, clock: { monotonicMs(): number }): Credential {
  const { file, header: name, scheme } = settings
  const files = createFreshFiles([file], clock)
  return {
    async field() {
      const [token = ''] = await files.read()
      if (!HEADER_VALUE.test(token)) throw failed(`${file} holds what a header cannot carry`)
      return { name, value: scheme === null ? token : `${scheme} ${token}` }
    },
    rejected: files.forget,
    close: async () => undefined,
  }
}
