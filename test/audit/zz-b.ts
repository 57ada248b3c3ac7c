import { DENY_TRACE } from './fixtures.ts'
const rules = Array.from({ length: 6 }, () => DENY_TRACE.rules).flat()
const text = JSON.stringify({ ...DENY_TRACE, rules })
import * as S from '../../src/audit/secrets.ts'
const anchors: string[] = (S as any).ANCHOR_LIST
const T = (n: string, f: () => unknown, k = 2000) => { for (let i = 0; i < 1000; i++) f(); let best = 1e9; for (let r = 0; r < 7; r++) { const s = process.hrtime.bigint(); for (let i = 0; i < k; i++) f(); best = Math.min(best, Number(process.hrtime.bigint() - s) / 1000 / k) } console.log(n.padEnd(50), best.toFixed(1), 'us') }
const esc = (l: string) => l.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&')
const rank = (c: string) => /[~]/.test(c) ? 0 : /[A-Z]/.test(c) ? 1 : c === '_' ? 2 : /\d/.test(c) ? 3 : c === '-' ? 4 : c === '/' ? 5 : c === ':' ? 6 : c === '.' ? 7 : 8
const by = new Map<string, string[]>()
for (const a of anchors) {
  let best = 0
  for (let i = 1; i < a.length; i++) if (rank(a[i]!) < rank(a[best]!)) best = i
  const c = a[best]!
  const pre = a.slice(0, best), post = a.slice(best + 1)
  by.set(c, [...(by.get(c) ?? []), `${pre === '' ? '' : `(?<=${esc(pre + c)})`}${esc(post)}`])
}
console.log([...by].map(([c, l]) => c + ':' + l.length).join(' '))
const rare = new RegExp([...by].map(([c, l]) => `${esc(c)}(?:${l.join('|')})`).join('|'))
const plain = new RegExp([...anchors].sort().map(esc).join('|'))
const cls = new RegExp(`[${[...by.keys()].map(esc).join('')}]`, 'g')
T('plain', () => plain.test(text))
T('rare', () => rare.test(text))
const look = new RegExp(`[${[...by.keys()].map(esc).join('')}](?<=${[...by].map(([c, l]) => l.map(() => '').join('')).join('')}x)`)
const two = new RegExp(`[A-Z_~](?<=${anchors.map((a) => { let b = -1; for (let i = 0; i < a.length; i++) if (/[A-Z_~]/.test(a[i]!)) { b = i; break } return b < 0 ? null : `${esc(a.slice(0, b + 1))}(?=${esc(a.slice(b + 1))})` }).filter(Boolean).join('|')})`)
const rest = anchors.filter((a) => !/[A-Z_~]/.test(a)); console.log(rest)
const restRe = new RegExp(rest.sort().map(esc).join('|'))
T('two', () => two.test(text))
T('rest', () => restRe.test(text))
T('class count', () => { let n = 0; for (const _ of text.matchAll(/[A-Z_~]/g)) n++; return n })
console.log([...text.matchAll(/[A-Z_~]/g)].length)
