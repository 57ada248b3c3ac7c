/**
 * The guard: one tiny shell process beside the gateway that ends the process groups of all stdio servers when the gateway
 * has gone, however it went. It reads the list of groups from a pipe whose other end only the gateway holds: the kernel
 * closes that end also after kill -9, and the guard sees the end of file.
 */
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'

/** `+ 123` adds a group, `- 123` takes it off. The gateway itself leaves the list empty when it ends as it should. */
const SCRIPT = `
groups=
while read -r sign group; do
  case $sign in
  +) groups="$groups $group" ;;
  -)
    left=
    for one in $groups; do [ "$one" = "$group" ] || left="$left $one"; done
    groups=$left
    ;;
  esac
done
[ -n "$groups" ] || exit 0
for one in $groups; do kill -s TERM -- "-$one" 2>/dev/null; done
sleep 2
for one in $groups; do kill -s KILL -- "-$one" 2>/dev/null; done
`

/** Watches over process groups. */
export interface Guard {
  /**
   * From now on the group ends with the gateway; the function returned takes it off the list.
   * @throws Error when there is no guard: nothing may run that nobody would end
   */
  watch(group: number): () => void
  close(): void
}

/** Starts the shell with the first group. */
export function createGuard(): Guard {
  const groups = new Set<number>()
  let shell: ChildProcess | null = null
  let isClosed = false

  function start(): ChildProcess {
    // A session of its own: Ctrl-C in a terminal and signals to the gateway's group do not reach it.
    const started = spawn('/bin/sh', ['-c', SCRIPT, 'mcp-policy-gateway-guard'], {
      cwd: '/',
      env: {},
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    const gone = (): void => {
      if (shell !== started) return
      shell = null
      if (groups.size > 0 && !isClosed) restart()
    }
    started.on('error', gone)
    started.on('exit', gone)
    // A write to a guard that has just gone: `exit` follows.
    started.stdin?.on('error', () => undefined)
    started.unref()
    if (started.pid === undefined) throw new Error('the guard of stdio servers could not be started')
    shell = started
    for (const group of groups) tell(`+ ${group}`)
    return started
  }

  /** Best effort: without a guard the next server to start says so. */
  function restart(): void {
    try {
      start()
    } catch {
      shell = null
    }
  }

  function tell(line: string): void {
    shell?.stdin?.write(`${line}\n`)
  }

  return {
    watch(group) {
      if (shell === null) start()
      groups.add(group)
      tell(`+ ${group}`)
      return () => {
        if (groups.delete(group)) tell(`- ${group}`)
      }
    },
    close() {
      isClosed = true
      shell?.stdin?.end()
      shell = null
    },
  }
}
