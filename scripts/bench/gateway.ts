/** A whole gateway for the benchmarks, from the build in dist/. Arguments: configuration file. Ends with its parent. */
// What users run: a loader that makes TypeScript of src/ runnable would add to every function.
const built = (path: string): Promise<unknown> => import(new URL(`../../dist/${path}`, import.meta.url).href)
const { loadConfig } = (await built('config/load.js')) as typeof import('../../src/config/load.ts')
const { createLog } = (await built('log.js')) as typeof import('../../src/log.ts')
const { startGateway } = (await built('main.js')) as typeof import('../../src/main.ts')

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
