/** A whole gateway for the benchmarks, as users run it: from the build in dist/. Argument: configuration file. Ends with its parent. */
import { built } from './built.mjs'

const { loadConfig } = await built('config/load.js')
const { createLog } = await built('log.js')
const { startGateway } = await built('main.js')

const { config } = loadConfig({ file: process.argv[2] })
const gateway = await startGateway(config, { log: createLog({ level: 'warn' }) })
const adminPort = gateway.adminAddress?.port ?? 0
process.stdout.write(`${JSON.stringify({ port: gateway.address.port, adminPort })}\n`)

let isClosing = false
async function end() {
  if (isClosing) return
  isClosing = true
  await gateway.close()
  process.exit(0)
}
process.on('SIGTERM', () => void end())
process.stdin.resume().once('end', () => void end())
