import { escapeText } from './text.ts'

/** A word as a shell takes it; what a terminal must not show is shown escaped and has to be typed by hand. */
export function shellWord(text: string): string {
  return /^[\w./:@-]+$/.test(text) ? text : `'${escapeText(text).replaceAll("'", `'\\''`)}'`
}
