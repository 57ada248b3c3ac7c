import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import type { LoadedConfig } from '../../src/config/load.ts'
import { loadConfig } from '../../src/config/load.ts'
import { listSettings } from '../../src/config/show.ts'

describe('configuration of a stdio upstream', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gateway-config-'))
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  async function load(upstream: string, environment: Record<string, string> = {}): Promise<LoadedConfig> {
    const file = join(folder, 'gateway.yaml')
    await writeFile(file, `upstreams:\n  files: ${upstream}\n`)
    return loadConfig({ file, environment })
  }

  it('gets the few variables every process needs and its own, and nothing else of the gateway', async () => {
    const environment = {
      PATH: '/bin',
      HOME: '/home/me',
      TZ: 'UTC',
      DATABASE_URL: 'postgres://u:p@db/x',
      GATEWAY_SECRET: 'Vn5sQ2xk8Rz1Lw7Yc3Tb9Jh4Gd6Fm0PaSeUiOqXvKtB=',
      OTHER_TOKEN: 'not-yours',
      NODE_OPTIONS: '--require=/tmp/x.js',
      FILES_TOKEN: 'its-own',
    }
    const { config } = await load(
      '{ command: [server], env: { TOKEN: "${FILES_TOKEN}", PATH: /opt } }',
      environment,
    )
    expect(config.upstreams['files']?.stdio).to.deep.include({
      env: { PATH: '/opt', HOME: '/home/me', TZ: 'UTC', TOKEN: 'its-own' },
      secrets: ['its-own', '/opt'],
    })
  })

  it('works in the folder of the file, or in one relative to it', async () => {
    expect((await load('{ command: [server] }')).config.upstreams['files']?.stdio?.cwd).to.equal(folder)
    const { config } = await load('{ command: [server], cwd: ./data }')
    expect(config.upstreams['files']?.stdio?.cwd).to.equal(join(folder, 'data'))
  })

  it('has a server for each session unless told otherwise', async () => {
    const { config } = await load('{ command: [server] }')
    expect(config.upstreams['files']).to.deep.include({ url: null })
    expect(config.upstreams['files']?.stdio).to.deep.include({ sessions: 'per_session', maxChildren: 32 })
  })

  it('is shown without the values of its environment, and without what came into its arguments from outside', async () => {
    const loaded = await load(
      '{ command: [server, "--key=${KEY}"], env: { NAME: plain, TOKEN: "${KEY}" } }',
      {
        KEY: 'very-secret',
      },
    )
    const shown = listSettings(loaded).filter(({ setting }) => setting.startsWith('upstreams.files.'))
    const values = Object.fromEntries(shown.map(({ setting, value }) => [setting, value]))
    expect(values).to.deep.include({
      'upstreams.files.command': ['server', '--key=${KEY}'],
      'upstreams.files.env.NAME': '********',
      'upstreams.files.env.TOKEN': '${KEY}',
    })
    expect(JSON.stringify(shown)).not.to.contain('very-secret')
  })
})
