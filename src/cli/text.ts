/** Text as it may be shown on a terminal: nothing hidden, nothing wider than there is room for. */

// Controls, format characters (bidi, zero width, tags), lone surrogates, private use, line separators, anything a
// terminal draws as nothing, and every space that is not the plain one.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]|(?! )\p{Zs}/gu
const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }
const WIDE =
  /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\u3000-\u303f\uff01-\uff60]/u

/** Shows control, escape, bidi, zero-width and look-alike space characters as `\u{..}`. For names of foreign origin. */
export function escapeText(text: string): string {
  return text.replace(
    HIDDEN,
    (char) => SHORT[char] ?? `\\u{${(char.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}}`,
  )
}

/** Terminal columns a text takes: wide East Asian characters and emoji count two, combining marks none. */
export function textWidth(text: string): number {
  let width = 0
  for (const char of text) width += charWidth(char)
  return width
}

/** Cuts a text in the middle so that it takes at most `width` columns: both ends of ids and paths tell most. */
export function cutMiddle(text: string, width: number): string {
  if (textWidth(text) <= width) return text
  if (width <= 1) return '…'
  const chars = [...text]
  const tail = takeColumns(chars.slice().reverse(), Math.floor((width - 1) / 2)).reverse()
  const head = takeColumns(chars, width - 1 - textWidth(tail.join('')))
  return `${head.join('')}…${tail.join('')}`
}

function takeColumns(chars: readonly string[], width: number): string[] {
  const taken: string[] = []
  let used = 0
  for (const char of chars) {
    used += charWidth(char)
    if (used > width) break
    taken.push(char)
  }
  return taken
}

function charWidth(char: string): number {
  if (char >= ' ' && char <= '~') return 1
  if (/\p{M}/u.test(char)) return 0
  return WIDE.test(char) ? 2 : 1
}
