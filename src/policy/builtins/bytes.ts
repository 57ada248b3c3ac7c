/** Go strings are bytes; ours are text. This is where bytes become text and text becomes bytes. */
import { BuiltinLimitError } from './budget.ts'

const DECODER = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The UTF-8 bytes of a text. */
export function toBytes(text: string): Buffer {
  return Buffer.from(text, 'utf8')
}

/**
 * The text of UTF-8 bytes.
 *
 * @throws {BuiltinLimitError} `binary_text` for anything else: OPA would keep the bytes, the border to Wasm cannot,
 * and replacing them would make different values equal
 */
export function toText(bytes: Uint8Array): string {
  try {
    return DECODER.decode(bytes)
  } catch (thrown) {
    throw new BuiltinLimitError('binary_text', `decoded bytes are no UTF-8 text (${String(thrown)})`)
  }
}
