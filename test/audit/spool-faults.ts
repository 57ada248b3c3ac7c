/** A file system that fails as told: the real one with a fault in front. */
import type { SpoolFile, SpoolFs } from '../../src/audit/spool-files.ts'
import { SPOOL_FS } from '../../src/audit/spool-files.ts'

/** What goes wrong, while it is set. */
export interface Faults {
  /** Errno code of every write; `short` = one byte at a time. */
  write: string | null
  /** Bytes that still fit before `write` fails with ENOSPC; null = no end. */
  room: number | null
  /** Errno code of every fdatasync. */
  sync: string | null
  /** Errno code of opening for writing. */
  open: string | null
  /** Errno code of every read. */
  read: string | null
  /** Called before every read. */
  beforeRead: (() => Promise<void>) | null
  /** Writes and syncs that never answer; call them to let go. */
  hanging: (() => void)[] | null
  syncs: number
}

export function faultyFs(): { readonly fs: SpoolFs; readonly faults: Faults } {
  const faults: Faults = {
    ...{
      write: null,
      room: null,
      sync: null,
      open: null,
      read: null,
      beforeRead: null,
      hanging: null,
      syncs: 0,
    },
  }
  const fail = (code: string): never => {
    throw Object.assign(new Error(`${code}: made to fail`), { code })
  }
  const wrap = (file: SpoolFile): SpoolFile => ({
    async write(buffer, offset, length, position) {
      if (faults.hanging !== null) await new Promise<void>((resolve) => faults.hanging?.push(resolve))
      if (faults.write === 'short') return await file.write(buffer, offset, Math.min(length, 7), position)
      if (faults.write !== null) fail(faults.write)
      if (faults.room === null) return await file.write(buffer, offset, length, position)
      const fits = Math.min(length, faults.room)
      faults.room -= fits
      if (fits === 0) fail('ENOSPC')
      return await file.write(buffer, offset, fits, position)
    },
    async read(...args) {
      await faults.beforeRead?.()
      if (faults.read !== null) fail(faults.read)
      return await file.read(...args)
    },
    async datasync() {
      faults.syncs += 1
      if (faults.sync !== null) fail(faults.sync)
      await file.datasync()
    },
    sync: () => file.sync(),
    truncate: (length) => file.truncate(length),
    close: () => file.close(),
    stat: () => file.stat(),
  })
  return {
    faults,
    fs: {
      ...SPOOL_FS,
      async open(path, flags, mode) {
        if (flags !== 'r' && faults.open !== null) fail(faults.open)
        return wrap(await SPOOL_FS.open(path, flags, mode))
      },
      async mkdir(path, options) {
        if (faults.open !== null) fail(faults.open)
        return await SPOOL_FS.mkdir(path, options)
      },
    },
  }
}
