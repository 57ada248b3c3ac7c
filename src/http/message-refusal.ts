/** A message that is refused while it is being read, when the call does not know its id yet. */

import type { EndingKind, GatewayErrorOptions } from '../errors.ts'
import { GatewayError } from '../errors.ts'

/** What a {@link MessageRefusal} knows besides the error itself. */
export interface MessageRefusalOptions extends GatewayErrorOptions {
  /** Exact JSON text of the refused message's id; null or absent when it has none that can be trusted. */
  readonly idText?: string | null
  /** Value of the `Allow` header of a 405. */
  readonly allow?: string
}

/** A {@link GatewayError} of stage `read` that carries what its reply needs. */
export class MessageRefusal extends GatewayError {
  readonly idText: string | null
  readonly allow: string | null

  constructor(kind: EndingKind, options: MessageRefusalOptions = {}) {
    super(kind, options)
    this.name = 'MessageRefusal'
    this.idText = options.idText ?? null
    this.allow = options.allow ?? null
  }
}
