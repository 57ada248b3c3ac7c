/** What a person at a terminal types, character by character. */
import { stdin } from 'node:process'
import { StringDecoder } from 'node:string_decoder'

/** Whether there is a person with a keyboard. @param isTerminal whether what is printed goes to a terminal */
export function hasKeys(isTerminal: boolean): boolean {
  return isTerminal && stdin.isTTY === true
}

/**
 * Listens until the returned function is called; where there is no terminal, nobody types.
 * @param onText gets what was typed at once: one character, or the sequence of an arrow key
 */
export function listenToKeys(isTerminal: boolean, onText: (text: string) => void): () => void {
  if (!hasKeys(isTerminal)) return () => undefined
  const decoder = new StringDecoder('utf8')
  const listen = (chunk: Buffer): void => onText(decoder.write(chunk))
  stdin.setRawMode(true)
  stdin.on('data', listen)
  return () => {
    stdin.off('data', listen)
    stdin.setRawMode(false)
    stdin.pause()
  }
}
