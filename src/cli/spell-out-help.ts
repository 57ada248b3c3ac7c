/** `gateway help` without an id. Apart from the command, so that reading the command line loads nothing more. */

/** What lists all messages: `gateway help all`. */
export const ALL_MESSAGES = 'all'

const FLAGS: ReadonlySet<string> = new Set(['--json', '--color', '--no-color', '--help', '-h'])

/** The parser takes a last word `help` for its own option; alone, it asks for the list. */
export function spellOutHelp(args: readonly string[]): string[] {
  const [first, ...rest] = args
  const isAlone = rest.every((arg) => FLAGS.has(arg))
  return first === 'help' && isAlone ? [first, ALL_MESSAGES, ...rest] : [...args]
}
