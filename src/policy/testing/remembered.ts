/** A compiler that answers what it was asked before from memory, for a folder of which most stays as it was. */
import { createHash } from 'node:crypto'
import type { Compiler } from '../compiler.ts'

/** Answers kept of each kind: the last state that was right, and a few on the way back to it. */
const MAX_KEPT = 4

/** Remembers the last builds and evaluations. What fails is asked again. */
export function rememberAnswers(compiler: Compiler): Compiler {
  return {
    ...compiler,
    build: remembering((request) => compiler.build(request)),
    evaluate: remembering((request) => compiler.evaluate(request)),
  }
}

function remembering<Q, A>(ask: (question: Q) => Promise<A>): (question: Q) => Promise<A> {
  const known = new Map<string, Promise<A>>()
  return (question) => {
    const key = createHash('sha256').update(JSON.stringify(question, withDigits)).digest('hex')
    const answer = known.get(key) ?? ask(question)
    known.delete(key)
    known.set(key, answer)
    answer.catch(() => known.delete(key))
    for (const oldest of [...known.keys()].slice(0, -MAX_KEPT)) known.delete(oldest)
    return answer
  }
}

function withDigits(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value
}
