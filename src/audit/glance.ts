/** One look over a whole text, which nearly always shows that nothing in it has to be hidden. Says no when in doubt. */
import { LRUCache } from 'lru-cache'
import { maskSecrets, mayHoldSecret, SECRET_WORDS } from './secrets.ts'
import type { Bounds } from './walk.ts'
import type { WordFinder, Words } from './word-finder.ts'
import { createWordFinder } from './word-finder.ts'

/** What PostgreSQL refuses in a text, and what is worth a closer look. */
const UNUSUAL = /[^\x20-\x7e]|(?:^|[ :,[])-?\d[\d.]*[eE][+-]?\d{3}/
/** Names of secret members in lower-case text, wherever they may stand; says yes too often rather than too seldom. */
const SECRET_NAMES =
  /passw|passphrase|passcode|pwd|secret|token|authoriz|cookie|credential|key(?<=(?:api|private|access|signing|encryption|ssh|master|hmac)[^a-z]{0,2}key)|(?:auth|pass|pin|sid|otp)(?![_. -]{0,4}[a-z0-9])|auth[^a-z]?(?:header|code)|dsn|conn(?:ection)?[^a-z]?str|session[^a-z]?id|jwt|assertion|code[^a-z]?verifier|webhook[^a-z]?url|(?:otp|mfa|pin)[^a-z]?code|cvv|cvc|ssn|social[^a-z]?security|card[^a-z]?n|sas[^a-z]?url|keystore[^a-z]?pass/

/** A word of each of them. Short and common ones only where a name ends. */
const NAME_WORDS: Words = {
  exact: [],
  anyCase: [
    ...[
      'passw',
      'passphrase',
      'passcode',
      'pwd',
      'secret',
      'token',
      'authoriz',
      'cookie',
      'credential',
      'dsn',
      'jwt',
    ],
    ...['assertion', 'verifier', 'cvv', 'cvc', 'ssn', 'social', 'card', 'session'],
    ...[
      'auth',
      'pass',
      'pin',
      'sid',
      'otp',
      'key',
      'keys',
      'keyid',
      'code',
      'url',
      'string',
      'str',
      'header',
    ].flatMap((word) => ['"', "'", '\\', ']'].map((end) => word + end)),
  ],
}
const hasNameWord = createWordFinder(NAME_WORDS)
/** Whether a text may hold or name a secret: one pass instead of two over texts that nearly always do neither. */
export const mayHoldAnything: WordFinder = createWordFinder({
  exact: SECRET_WORDS.exact,
  anyCase: [...SECRET_WORDS.anyCase, ...NAME_WORDS.anyCase],
})

/** Whether a JSON text may name a secret member; no false negatives for names of ASCII characters as they are usually spelt. */
export function mayNameSecret(text: string): boolean {
  return hasNameWord(text) && SECRET_NAMES.test(text.toLowerCase())
}

/** Names in quotes with their colon, longer than any that is kept. */
const MAX_NAME = 128
const LONG_NAME = /"[^"]{128,}"\s*:/
const OPENING = 0x5b
const COMMA = 0x2c
const QUOTE = 0x22
const BACKSLASH = 0x5c

/** Whether a JSON text surely keeps the bounds, by counting characters rather than members and levels. */
export function isWithin(text: string, bounds: Bounds): boolean {
  const { depth, items, keys, stringLength, totalLength, nodes } = bounds
  if (text.length > Math.min(stringLength, totalLength)) return false
  let commas = 0
  let opened = 0
  let quote = 0
  let mayBeLong = false
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code === COMMA) commas += 1
    else if (code === QUOTE) {
      if (at - quote > MAX_NAME || text.charCodeAt(at - 1) === BACKSLASH) mayBeLong = true
      quote = at
    }
    // `[` and `{` differ in one bit.
    else if ((code & ~0x20) === OPENING) opened += 1
  }
  if (commas + opened >= Math.min(items, keys, nodes) || opened > depth) return false
  return !mayBeLong || !mayHoldLongName(text)
}

/** An escaped quote could make several of one name. */
function mayHoldLongName(text: string): boolean {
  return text.length > MAX_NAME && (text.includes('\\"') || LONG_NAME.test(text))
}

/** Whether the text is valid JSON. */
export function isJsonText(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** Said by the gateway in every policy input, and the name of no secret. */
const METHOD = '"auth_method":"api_key"'

/** Whether nothing in a JSON text is secret or hurts the database. `memory`: what has been caught already. */
export function looksPlain(json: string, memory: { mayStandIn(text: string): boolean }): boolean {
  const text = json.includes(METHOD) ? json.replace(METHOD, '"auth_method":0') : json
  return (
    !UNUSUAL.test(text) &&
    // Escapes could hide a secret from a look at raw JSON.
    !text.includes('\\u') &&
    !text.includes('\\/') &&
    !(mayHoldAnything(text) && (mayNameSecret(text) || mayHoldSecret(text))) &&
    !memory.mayStandIn(text)
  )
}

/** The words of the policies looked at last, and whether something in them has to be masked. */
const WORDS = new LRUCache<string, boolean>({ max: 16 })

/** Whether a policy's own words hold no secret. They are the same for every row, so they are looked through once. */
export function areCleanWords(words: string): boolean {
  const known = WORDS.get(words)
  if (known !== undefined) return known
  const clean = !words.includes('\\u') && maskSecrets(words, () => undefined) === words
  WORDS.set(words, clean)
  return clean
}
