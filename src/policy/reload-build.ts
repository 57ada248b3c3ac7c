/** Builds a policies folder in a process of its own, which ends with the build: the gateway's own thread only receives. */
import type { ChildProcess } from 'node:child_process'
import { fork } from 'node:child_process'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { CompiledPolicy } from './build.ts'
import { PolicyBuildError } from './build-error.ts'
import type { BuildAnswer } from './reload-child.ts'

/** What {@link buildBeside} needs. */
export interface BesideOptions {
  readonly folder: string
  /** Folder of finished builds and of the unpacked compiler. */
  readonly cacheDir: string
  /** Ends the build; it then rejects. */
  readonly signal: AbortSignal
  /** Default 2 minutes. */
  readonly timeoutMs?: number
}

const TIMEOUT_MS = 120_000
/** How much of the child's stderr an error shows, in characters. */
const STDERR_CHARACTERS = 2000

/** The same program as source and as build output. */
const PROGRAM = fileURLToPath(
  new URL(`./reload-child${extname(fileURLToPath(import.meta.url))}`, import.meta.url),
)

/** Throws PolicyBuildError with everything that is wrong with the policies; another Error when it could not be built. */
export async function buildBeside(options: BesideOptions): Promise<CompiledPolicy> {
  const { folder, cacheDir, signal } = options
  signal.throwIfAborted()
  const child = fork(PROGRAM, [folder, cacheDir], {
    // Nothing of this process's environment: no secrets.
    env: {},
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  const stop = (): void => void child.kill('SIGKILL')
  const timer = setTimeout(stop, options.timeoutMs ?? TIMEOUT_MS)
  signal.addEventListener('abort', stop)
  try {
    const answer = await answerOf(child)
    if (answer.kind === 'built') return answer.policy
    if (answer.kind === 'refused') throw new PolicyBuildError(answer.errors)
    throw new Error(answer.message)
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', stop)
    stop()
  }
}

function answerOf(child: ChildProcess): Promise<BuildAnswer> {
  return new Promise((resolve, reject) => {
    let stderr = ''
    child.stderr?.on('data', (chunk: Buffer) => {
      stderr = (stderr + chunk.toString('utf8')).slice(-STDERR_CHARACTERS)
    })
    child.once('message', (answer) => resolve(answer as BuildAnswer))
    child.once('error', reject)
    child.once('close', (code, ended) => {
      const text = stderr.trim()
      const how = ended === null ? `with code ${code}` : `by ${ended}`
      reject(new Error(`the build of the policies ended ${how}${text === '' ? '' : `: ${text}`}`))
    })
  })
}
