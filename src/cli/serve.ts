/** `gateway serve`: runs until a signal ends it. */

import { listenText } from '../config/listen.ts'
import { loadConfig } from '../config/load.ts'
import type { Config } from '../config/types.ts'
import { UsageError } from '../errors.ts'
import type { Log } from '../log.ts'
import { createLog } from '../log.ts'
import { startGateway } from '../main.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'
import { toPolicyTrouble } from './policy-trouble.ts'

interface ServeArgs extends CommandArgs {
  readonly policies?: string | undefined
  readonly dev?: boolean | undefined
}

type Gateway = Awaited<ReturnType<typeof startGateway>>

/** Adds `serve`. */
export const serveCommands: CommandGroup = (parser, streams) =>
  parser.command<ServeArgs>(
    'serve',
    'Run the gateway',
    (command) =>
      command
        .option('policies', {
          type: 'string',
          describe: 'Policies folder, bundle or `postgres:`, instead of the configured ones',
          requiresArg: true,
        })
        .option('dev', {
          type: 'boolean',
          describe: 'Let requests without a credential in; only on a loopback address',
        })
        .example('$0 serve', 'With ./gateway.yaml')
        .example('$0 serve --config prod.yaml', 'With another configuration')
        .example('$0 serve --policies ../policies', 'With other policies')
        .example('$0 serve --policies bundle.tar.gz', 'With a bundle; the compiler is not needed')
        .example('$0 serve --policies postgres:', 'With what `gateway policy publish` has stored'),
    (args) => serve(args, streams),
  )

async function serve(args: ServeArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const flags = { policies: args.policies, dev: args.dev }
  const { config } = loadConfig({ file: args.config, flags })
  const log = createLog({ level: config.log.level })
  const stop = listenForSignals(out)
  try {
    const gateway = await start(config, log, out)
    try {
      tellAddresses(out, config, gateway)
      const hangup = listenForHangup(gateway, log, out)
      await stop.requested
      hangup.release()
      out.note('stopping: calls under way may finish; once more to stop at once')
    } finally {
      await gateway.close()
    }
  } finally {
    stop.release()
  }
}

async function start(config: Config, log: Log, out: Output): Promise<Gateway> {
  try {
    return await out.progress('starting', (progress) =>
      startGateway(config, { log, onProgress: progress.step }),
    )
  } catch (error) {
    throw toListenError(toPolicyTrouble(error))
  }
}

/** The system's words for an address that cannot be bound, with the way out. */
function toListenError(error: unknown): unknown {
  if (!(error instanceof Error && 'syscall' in error && error.syscall === 'listen')) return error
  const { code, address, port } = error as NodeJS.ErrnoException & { address?: string; port?: number }
  const at = listenText({ host: address ?? '', port: port ?? 0 })
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE:
      'another program uses it. End that program, or choose another port with listen or admin.listen',
    EACCES: 'this user may not use that port. Choose one above 1023',
    EADDRNOTAVAIL: 'this machine has no such address. Correct listen or admin.listen',
  }
  const reason = reasons[code ?? ''] ?? `${code ?? error.message}. Correct listen or admin.listen`
  return new UsageError('unreachable', `cannot listen on ${at}: ${reason}.`, { cause: error })
}

function tellAddresses(out: Output, config: Config, gateway: Gateway): void {
  const scheme = config.tls === null ? 'http' : 'https'
  const front = `${scheme}://${listenText(gateway.address)}`
  const admin = gateway.adminAddress === null ? null : `http://${listenText(gateway.adminAddress)}`
  const mounts = Object.keys(config.upstreams).map((name) => `${front}/mcp/${name}`)
  if (config.federation.enabled) mounts.push(`${front}/mcp`)
  if (out.isJson) {
    out.ndjson({
      event: 'listening',
      front,
      admin,
      mounts,
      audit: config.audit.enabled,
      dev: config.auth.anonymous,
    })
    return
  }
  out.line(`${out.style('good', 'listening')}  ${front}`)
  for (const mount of mounts) out.line(`  ${mount}`)
  if (admin !== null) out.line(`  ${admin}/readyz  (admin)`)
  if (!config.audit.enabled)
    out.line(out.style('warn', '  audit is off: nothing is recorded (audit.enabled: false)'))
  if (config.auth.anonymous) {
    out.line(out.style('warn', '  --dev: every request without a credential from this machine is let in'))
  }
}

/** SIGHUP asks to read the policies again. */
function listenForHangup(gateway: Gateway, log: Log, out: Output): { release(): void } {
  const onSignal = (): void => {
    void gateway.reloadPolicies().then((result) => {
      log.info({ result }, 'policies read on SIGHUP')
      out.note(`policies: ${RELOADED[result]}`)
    })
  }
  process.on('SIGHUP', onSignal)
  return { release: () => void process.off('SIGHUP', onSignal) }
}

const RELOADED = {
  replaced: 'new ones are in force',
  unchanged: 'they are those that serve',
  failed: 'they cannot be put in force, the last good ones stay; the log says why',
} as const

/** SIGINT and SIGTERM ask to stop; the second one stops at once. */
function listenForSignals(out: Output): { readonly requested: Promise<void>; release(): void } {
  let request = (): void => undefined
  const requested = new Promise<void>((resolve) => {
    request = resolve
  })
  let count = 0
  const onSignal = (): void => {
    count += 1
    if (count === 1) {
      request()
      return
    }
    out.note('stopped at once')
    // Nothing may hold a person up who asks twice; what is in flight is recorded as interrupted at the next start.
    process.exit(130)
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  return {
    requested,
    release() {
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
    },
  }
}
