/**
 * Reads a policies folder: `*.rego` (tests apart) and `data.json|yaml|yml`, merged into `data` by folder. Everything that
 * cannot be read for certain is an error: a rule that is silently left out could be the one that denies.
 */
import { isUtf8 } from 'node:buffer'
import { constants } from 'node:fs'
import { open, readdir, realpath, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'
import type { JsonObject } from './build-data.ts'
import { dataError, mergeData, parseData } from './build-data.ts'
import { PolicyBuildError } from './build-error.ts'
import type { PolicyError } from './compiler.ts'

/** The content of a policies folder. */
export interface PolicySources {
  /** Rego text by path, relative to the folder, with `/`; in order. */
  readonly rego: Readonly<Record<string, string>>
  /** The merged base documents. */
  readonly data: JsonObject
}

/** How much a policies folder may hold. */
export interface SourceBounds {
  readonly maxFiles: number
  readonly maxFileBytes: number
  readonly maxTotalBytes: number
  readonly maxDepth: number
}

/** Bounds that no folder of people's policies comes near. */
export const SOURCE_BOUNDS: SourceBounds = {
  maxFiles: 2_000,
  maxFileBytes: 8 * 1024 * 1024,
  maxTotalBytes: 32 * 1024 * 1024,
  maxDepth: 16,
}

const DATA_FILE = /^data\.(json|ya?ml)$/

/** Folders of test tables; there are no policies in them. */
export const CASES_FOLDER = 'cases'

interface Found {
  /** Relative path with `/`. */
  readonly name: string
  readonly path: string
}

/** A file that was read. */
export interface FolderFile {
  /** Path relative to the folder, with `/`. */
  readonly name: string
  readonly text: string
}

/** Which files of a policies folder are read. */
export interface FileSelection {
  /** Whether a folder of that name is looked into. */
  enters(name: string): boolean
  /** Whether a file of that name is wanted; `folders` are those it stands in, outermost first. */
  takes(name: string, folders: readonly string[]): boolean
}

const POLICY_FILES: FileSelection = {
  enters: (name) => name !== CASES_FOLDER,
  takes: (name) => DATA_FILE.test(name) || (name.endsWith('.rego') && !name.endsWith('_test.rego')),
}

/** Loads a policies folder. Throws PolicyBuildError with everything that is wrong with it. */
export async function loadPolicySources(
  folder: string,
  bounds: SourceBounds = SOURCE_BOUNDS,
): Promise<PolicySources> {
  const rego: Record<string, string> = {}
  const documents: { readonly file: string; readonly value: JsonObject }[] = []
  const errors: PolicyError[] = []
  for (const { name, text } of await readFolder(folder, POLICY_FILES, bounds)) {
    if (name.endsWith('.rego')) {
      rego[name] = text
      continue
    }
    const parsed = parseData(name, text)
    if ('value' in parsed) documents.push({ file: name, value: parsed.value })
    else errors.push(parsed.error)
  }
  const merged = mergeData(documents)
  errors.push(...merged.errors)
  if (errors.length > 0) throw new PolicyBuildError(errors)
  if (Object.keys(rego).length === 0)
    throw refuse(
      '',
      `${folder} holds no .rego file`,
      'put policies there, or point `policies` to their folder',
    )
  return Object.freeze({ rego: Object.freeze(rego), data: merged.data })
}

/**
 * Reads files of a policies folder, in the order of their names. Throws PolicyBuildError for what cannot be read for certain:
 * links that lead out, files that are no files or not UTF-8, too many or too large ones.
 */
export async function readFolder(
  folder: string,
  selection: FileSelection,
  bounds: SourceBounds = SOURCE_BOUNDS,
): Promise<readonly FolderFile[]> {
  const root = await rootOf(folder)
  const found: Found[] = []
  await walk({ root, bounds, found, selection }, root, [])
  const files: FolderFile[] = []
  let total = 0
  for (const file of found.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const text = await readText(file, bounds)
    total += Buffer.byteLength(text)
    if (total > bounds.maxTotalBytes)
      throw refuse(file.name, `the folder holds more than ${bounds.maxTotalBytes} bytes`)
    files.push({ name: file.name, text })
  }
  return files
}

async function rootOf(folder: string): Promise<string> {
  try {
    const root = await realpath(folder)
    if ((await stat(root)).isDirectory()) return root
  } catch (cause) {
    throw refuse('', `${folder} cannot be read`, 'check `policies`', cause)
  }
  throw refuse('', `${folder} is no folder`, 'check `policies`')
}

interface Walk {
  readonly root: string
  readonly bounds: SourceBounds
  readonly found: Found[]
  readonly selection: FileSelection
}

async function walk(state: Walk, folder: string, path: readonly string[]): Promise<void> {
  if (path.length > state.bounds.maxDepth) {
    throw refuse(path.join('/'), `folders are nested deeper than ${state.bounds.maxDepth}`)
  }
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    // Hidden entries belong to editors, version control and mounted volumes.
    if (entry.name.startsWith('.')) continue
    const name = [...path, entry.name].join('/')
    if (entry.isDirectory()) {
      if (state.selection.enters(entry.name))
        await walk(state, join(folder, entry.name), [...path, entry.name])
      continue
    }
    if (state.selection.takes(entry.name, path)) await add(state, join(folder, entry.name), name)
    else if (entry.isSymbolicLink()) await refuseFolderLink(join(folder, entry.name), name)
  }
}

async function add(state: Walk, path: string, name: string): Promise<void> {
  if (/\p{Cc}|\p{Bidi_Control}/u.test(name))
    throw refuse(JSON.stringify(name), 'file names must not hold control characters')
  const real = await resolved(path, name)
  if (!real.startsWith(state.root.endsWith(sep) ? state.root : state.root + sep)) {
    throw refuse(name, 'the link leads out of the policies folder', 'copy the file into the folder')
  }
  if (state.found.length >= state.bounds.maxFiles)
    throw refuse(name, `more than ${state.bounds.maxFiles} files`)
  state.found.push({ name, path: real })
}

async function refuseFolderLink(path: string, name: string): Promise<void> {
  const target = await stat(path).catch(() => null)
  if (target?.isDirectory())
    throw refuse(name, 'linked folders are not followed', 'copy the folder, or link its files')
}

async function resolved(path: string, name: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (cause) {
    throw refuse(name, 'the file cannot be read', null, cause)
  }
}

async function readText(file: Found, bounds: SourceBounds): Promise<string> {
  let bytes: Buffer
  try {
    bytes = await readBounded(file.path, bounds.maxFileBytes)
  } catch (cause) {
    throw refuse(
      file.name,
      `the file cannot be read: ${cause instanceof Error ? cause.message : cause}`,
      null,
      cause,
    )
  }
  if (bytes.length > bounds.maxFileBytes)
    throw refuse(
      file.name,
      `the file is larger than ${bounds.maxFileBytes} bytes`,
      'split it; a large list belongs where it is kept, and its answer into the claims of the caller',
    )
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw refuse(file.name, `the file is not UTF-8: line ${lineOfBadByte(bytes)}`, 'save it as UTF-8', cause)
  }
}

/** The first line that is no UTF-8 text; no character goes over the end of one. 1-based. */
function lineOfBadByte(bytes: Buffer): number {
  let row = 1
  for (let start = 0; ; row += 1) {
    const end = bytes.indexOf(0x0a, start)
    if (end < 0 || !isUtf8(bytes.subarray(start, end))) return row
    start = end + 1
  }
}

/** Opening a named pipe must not wait for its other end. */
const READ = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)

/** At most one byte more than allowed, however the file grows. */
async function readBounded(path: string, maxBytes: number): Promise<Buffer> {
  const handle = await open(path, READ)
  try {
    const info = await handle.stat()
    if (!info.isFile()) throw new Error('it is no regular file')
    const buffer = Buffer.alloc(Math.min(info.size, maxBytes) + 1)
    let length = 0
    while (length < buffer.length) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length)
      if (bytesRead === 0) break
      length += bytesRead
    }
    if (length > info.size && length <= maxBytes) throw new Error('it changed while it was read')
    return buffer.subarray(0, length)
  } finally {
    await handle.close()
  }
}

function refuse(
  file: string,
  message: string,
  hint: string | null = null,
  cause?: unknown,
): PolicyBuildError {
  return new PolicyBuildError([dataError(file, message, { code: 'source_error', hint })], { cause })
}
