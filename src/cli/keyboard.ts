/** Single keys of a person at a terminal. */
import { stdin } from 'node:process'

/** What a key stands for. */
export type Key = 'all' | 'failed' | 'quit'

/** Ctrl-C and Ctrl-D come as characters, too, as long as single keys are read. */
const KEYS: Readonly<Record<string, Key>> = {
  '\r': 'all',
  '\n': 'all',
  f: 'failed',
  q: 'quit',
  '\u0003': 'quit',
  '\u0004': 'quit',
}

/** Whether there is a person with a keyboard. @param isTerminal whether what is printed goes to a terminal */
export function hasKeys(isTerminal: boolean): boolean {
  return isTerminal && stdin.isTTY === true
}

/** Listens until the returned function is called; where there is no terminal, there are no keys. */
export function listenToKeys(isTerminal: boolean, onKey: (key: Key) => void): () => void {
  if (!hasKeys(isTerminal)) return () => undefined
  const listen = (chunk: Buffer): void => {
    for (const char of chunk.toString('latin1')) {
      const key = KEYS[char]
      if (key !== undefined) onKey(key)
    }
  }
  stdin.setRawMode(true)
  stdin.on('data', listen)
  return () => {
    stdin.off('data', listen)
    stdin.setRawMode(false)
    stdin.pause()
  }
}
