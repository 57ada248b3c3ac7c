/** What was taken out of a row, and why: the `redaction` column. */
import type { StoredText } from '../json/stored-text.ts'
import { storedJson, toStoredText } from '../json/stored-text.ts'
import type { KeptPayload } from './payload.ts'
import type { Redactor } from './redact.ts'
import type { Walked } from './walk.ts'

/** Collects, for one row, what the redactor did. */
export interface Notes {
  /** Keeps what happened to one JSON text and returns the text to store. */
  walked(section: string, walked: Walked, bytesIn?: number): StoredText
  /** Of how much is kept; `full` needs no word. */
  kept(payload: KeptPayload): void
  /** A payload that is left out on purpose. */
  withheld(section: string, bytesIn: number): null
  /** Runs the redaction of one section; a fault in it costs the section, never the row. */
  attempt<T>(section: string, run: () => T): T | null
  /** A text column; null stays null. `own`: the gateway's own words. */
  column(
    redactor: Redactor,
    value: string | null | undefined,
    maxLength: number,
    own?: boolean,
  ): string | null
  /** The column's JSON text; null when there is nothing to say. */
  json(): StoredText | null
}

interface Section {
  /** True size of the original in bytes. */
  readonly bytes_in?: number
  readonly redacted?: Walked['redacted']
  readonly redacted_count?: number
  readonly cut?: Walked['cut']
  readonly cut_count?: number
  readonly withheld?: true
}

/** Notes of one row. */
export function createNotes(): Notes {
  const sections: Record<string, Section | KeptPayload> = {}
  const failed: string[] = []
  const notes: Notes = {
    walked(section, walked, bytesIn) {
      // First of all: it throws when the text is no JSON.
      const stored = toStoredText(walked.json)
      const note: Section = {
        ...(bytesIn === undefined ? {} : { bytes_in: bytesIn }),
        ...(walked.redactedCount === 0
          ? {}
          : { redacted: walked.redacted, redacted_count: walked.redactedCount }),
        ...(walked.cutCount === 0 ? {} : { cut: walked.cut, cut_count: walked.cutCount }),
      }
      if (Object.keys(note).length > 0) sections[section] = note
      return stored
    },
    kept(payload) {
      if (payload.level !== 'full') sections['payload'] = payload
    },
    withheld(section, bytesIn) {
      sections[section] = { bytes_in: bytesIn, withheld: true }
      return null
    },
    attempt(section, run) {
      try {
        return run()
      } catch {
        if (!failed.includes(section)) failed.push(section)
        return null
      }
    },
    column(redactor, value, maxLength, own = false) {
      if (value === null || value === undefined || value === '') return null
      return notes.attempt('columns', () => redactor.text(value, maxLength, own))
    },
    json() {
      const failure = failed.length === 0 ? {} : { redaction_failed: failed }
      const all = { ...sections, ...failure }
      return Object.keys(all).length === 0 ? null : storedJson(all)
    },
  }
  return notes
}
