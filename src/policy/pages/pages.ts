/** The door of the pages: id -> page, in the order of the ids. */
import type { MessageKind } from '../message.ts'
import { MESSAGE_KINDS } from '../message.ts'
import type { MessagePage } from './page.ts'
import { POLICY_PAGES } from './policies.ts'
import { TEST_PAGES } from './tests.ts'
import { WARNING_PAGES } from './warnings.ts'

const PAGES: Readonly<Record<string, MessagePage>> = { ...POLICY_PAGES, ...WARNING_PAGES, ...TEST_PAGES }

/** A kind of message with its page. */
export interface PagedKind extends MessageKind {
  readonly page: MessagePage
}

/** All kinds of messages that have a page; a test holds that all have one. */
export function messagePages(): readonly PagedKind[] {
  return MESSAGE_KINDS.flatMap((kind) => {
    const page = PAGES[kind.id]
    return page === undefined ? [] : [{ ...kind, page }]
  })
}
