/** Hashes and HMACs: OPA v1/topdown/crypto.go. All over the UTF-8 bytes of the operands, all in lower-case hex. */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { BuiltinContext } from './budget.ts'
import { spend } from './budget.ts'
import { toBytes } from './bytes.ts'
import type { Builtin, BuiltinFamily } from './operands.ts'
import { stringOperand } from './operands.ts'

const NS_PER_DIGEST = 4_000
const NS_PER_CHAR = 10

function charge(context: BuiltinContext, texts: readonly string[]): void {
  spend(context, NS_PER_DIGEST + NS_PER_CHAR * texts.reduce((sum, text) => sum + text.length, 0))
}

function digest(algorithm: string): Builtin {
  return (operands, context) => {
    const message = stringOperand(operands, 1)
    charge(context, [message])
    return createHash(algorithm).update(message, 'utf8').digest('hex')
  }
}

function hmac(algorithm: string): Builtin {
  return (operands, context) => {
    const message = stringOperand(operands, 1)
    const key = stringOperand(operands, 2)
    charge(context, [message, key])
    return createHmac(algorithm, toBytes(key)).update(message, 'utf8').digest('hex')
  }
}

/** The family, by Rego names. */
export const CRYPTO: BuiltinFamily = {
  'crypto.hmac.equal': (operands, context) => {
    const a = toBytes(stringOperand(operands, 1))
    const b = toBytes(stringOperand(operands, 2))
    spend(context, NS_PER_DIGEST + a.length + b.length)
    return a.length === b.length && timingSafeEqual(a, b)
  },
  'crypto.hmac.md5': hmac('md5'),
  'crypto.hmac.sha1': hmac('sha1'),
  'crypto.hmac.sha256': hmac('sha256'),
  'crypto.hmac.sha512': hmac('sha512'),
  'crypto.md5': digest('md5'),
  'crypto.sha1': digest('sha1'),
  'crypto.sha256': digest('sha256'),
}
