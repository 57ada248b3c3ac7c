/** The text of an API key: `gwk_<id>_<secret>`, and what is kept of it. */
import { hash, randomBytes } from 'node:crypto'

/** What a presented key says, checked for its form only. `sha256` is of the whole text. */
export interface PresentedKey {
  readonly id: string
  readonly sha256: Buffer
}

/** A key that was just made. `text` is shown once and kept nowhere. */
export interface FreshKey extends PresentedKey {
  readonly text: string
}

/** Without the letters and digits that people mix up; 32 of them, so that a random byte picks one without bias. */
const ID_ALPHABET = 'abcdefghijkmnpqrstuvwxyz23456789'
const ID_LENGTH = 12
const KEY = /^gwk_([a-z0-9]{12})_[A-Za-z0-9_-]{43}$/

/** A new id. */
export function newKeyId(): string {
  return Array.from(randomBytes(ID_LENGTH), (byte) => ID_ALPHABET[byte & 31]).join('')
}

/** A new secret for that id: 256 random bits, so a plain SHA-256 of it is safe to store. */
export function newKey(id: string): FreshKey {
  const text = `gwk_${id}_${randomBytes(32).toString('base64url')}`
  return { id, text, sha256: digest(text) }
}

/** null when it does not have the form of a key. */
export function parseKey(text: string): PresentedKey | null {
  const id = KEY.exec(text)?.[1]
  return id === undefined ? null : { id, sha256: digest(text) }
}

function digest(text: string): Buffer {
  return hash('sha256', text, 'buffer')
}
