/** A whole gateway for the benchmarks, from the build in dist/. Arguments: configuration file. Ends with its parent. */
import { loadConfig } from '../../src/config/load.ts'
import { createLog } from '../../src/log.ts'
import { startGateway } from '../../src/main.ts'

const { config } = loadConfig({ file: process.argv[2] })
const gateway = await startGateway(config, { log: createLog({ level: 'warn' }) })
const adminPort = gateway.adminAddress?.port ?? 0
process.stdout.write(`${JSON.stringify({ port: gateway.address.port, adminPort })}\n`)

let isClosing = false
async function end(): Promise<void> {
  if (isClosing) return
  isClosing = true
  await gateway.close()
  process.exit(0)
}
process.on('SIGTERM', () => void end())
process.stdin.resume().once('end', () => void end())
