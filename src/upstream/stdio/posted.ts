/** What is POSTed to the bridge, and refusals of it in the words of the official servers: clients go by them. */

import { asObject } from '../../json/object.ts'
import { findValue, sliceOf } from '../../json/span.ts'
import { parseJson } from '../response.ts'
import type { HttpReply } from './http-reply.ts'

/** One POSTed message. */
export interface Posted {
  readonly text: string
  /** null = a response. */
  readonly method: string | null
  readonly params: Readonly<Record<string, unknown>>
  /** Exact JSON text; null when it has none. */
  readonly idText: string | null
  readonly isModern: boolean
}

/** A request. */
export type PostedRequest = Posted & { readonly method: string; readonly idText: string }

const META_VERSION = 'io.modelcontextprotocol/protocolVersion'

/** Callers' bodies have been scanned, and the gateway's own need not be. null = not one JSON object. */
export function readPosted(body: string): Posted | null {
  const parsed = asObject(parseJson(Buffer.from(body)))
  if (parsed === null) return null
  const params = asObject(parsed['params']) ?? {}
  const id = findValue(body, ['id'])
  return {
    text: body,
    method: typeof parsed['method'] === 'string' ? parsed['method'] : null,
    params,
    idText: id === null ? null : sliceOf(body, id),
    isModern: typeof asObject(params['_meta'])?.[META_VERSION] === 'string',
  }
}

/** Whether it wants an answer. */
export function isRequest(posted: Posted): posted is PostedRequest {
  return posted.method !== null && posted.idText !== null
}

/** Why a message is not served, and the HTTP status of that. */
export const REFUSALS = {
  malformed: { status: 400, code: -32600, message: 'Bad Request: not one JSON-RPC message' },
  noSession: { status: 400, code: -32000, message: 'Bad Request: Server not initialized' },
  unknownSession: { status: 404, code: -32001, message: 'Session not found' },
  secondStream: {
    status: 409,
    code: -32000,
    message: 'Conflict: Only one SSE stream is allowed per session',
  },
  /** A client that tries revisions in turn goes on to the older ones. */
  noModern: {
    status: 400,
    code: -32000,
    message: 'Bad Request: the server speaks revisions with sessions only',
  },
} as const

/** Answers what is not served. */
export function refuse(reply: HttpReply, why: keyof typeof REFUSALS, idText: string | null): void {
  const { status, code, message } = REFUSALS[why]
  const error = JSON.stringify({ code, message })
  reply.respond(status, `{"jsonrpc":"2.0","id":${idText ?? 'null'},"error":${error}}`)
}
