/**
 * Loaded before the conformance suite, which has no option for a credential: adds SUITE_KEY to every request to
 * SUITE_ORIGIN, whichever client makes it.
 */
import http from 'node:http'
import { Agent, setGlobalDispatcher } from 'undici'

const { SUITE_KEY: key, SUITE_ORIGIN: origin } = process.env
if (!key || !origin) throw new Error('SUITE_KEY and SUITE_ORIGIN: set both.')
const authorization = `Bearer ${key}`

setGlobalDispatcher(
  new Agent().compose((dispatch) => (options, handler) => {
    if (String(options.origin) !== origin) return dispatch(options, handler)
    return dispatch({ ...options, headers: withCredential(options.headers) }, handler)
  }),
)

/** undici takes headers as a flat list, as pairs or as an object. */
function withCredential(headers) {
  if (Array.isArray(headers)) return [...headers, 'authorization', authorization]
  const pairs =
    typeof headers?.[Symbol.iterator] === 'function' ? [...headers] : Object.entries(headers ?? {})
  return Object.fromEntries([...pairs, ['authorization', authorization]])
}

const request = http.request
http.request = (...args) => {
  const made = request(...args)
  if (`http://${made.getHeader('host')}` === origin) made.setHeader('authorization', authorization)
  return made
}
