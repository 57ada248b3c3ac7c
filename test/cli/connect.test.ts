import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { CLIENTS } from '../../src/setup/clients.ts'
import type { CliResult } from '../support/cli.ts'
import { errorOf, runCli, withEnvironment } from '../support/cli.ts'

const CONFIG = `public_url: https://mcp.example.com/gw/
upstreams:
  github: { url: "http://127.0.0.1:1/mcp" }
  files: { url: "http://127.0.0.1:2/mcp" }
`

describe('gateway connect', () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'gateway-connect-'))
    writeFileSync(join(folder, 'gateway.yaml'), CONFIG)
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  async function connect(...args: string[]): Promise<CliResult> {
    const homes = { HOME: folder, CODEX_HOME: undefined, XDG_CONFIG_HOME: undefined }
    return await withEnvironment({ ...homes, GATEWAY_KEY: 'gwk_literal_key' }, () =>
      runCli(['connect', ...args, '--config', join(folder, 'gateway.yaml'), '--folder', folder]),
    )
  }
  const put = (name: string, text: string): string => {
    const file = join(folder, name)
    mkdirSync(join(file, '..'), { recursive: true })
    writeFileSync(file, text)
    return file
  }
  const read = (name: string): string => readFileSync(join(folder, name), 'utf8')
  const headers = (value: string) => ({ headers: { Authorization: value } })

  it('points a client at all upstreams as one server', async () => {
    const entry = async (...more: string[]) =>
      JSON.parse((await connect('claude-code', '--merged', ...more)).out).mcpServers
    expect((await entry()).gateway.url).to.equal('https://mcp.example.com/gw/mcp')
    expect((await entry('--as', 'company')).company.url).to.equal('https://mcp.example.com/gw/mcp')
    expect((await entry('--url', 'https://other.example')).gateway.url).to.equal('https://other.example/mcp')
    expect((await connect('claude-code', '--merged', '--server', 'github')).code).to.equal(2)
    put('gateway.yaml', `${CONFIG}federation: { enabled: false }\n`)
    const refused = await connect('claude-code', '--merged')
    expect([refused.code, refused.err]).to.satisfy(
      ([code, err]: any) => code === 2 && /federation.enabled/.test(err),
    )
  })

  it('shows what claude-code takes, and writes nothing', async () => {
    const { code, out, err } = await connect('claude-code', '--server', 'github')
    expect(code).to.equal(0)
    expect(JSON.parse(out)).to.deep.equal({
      mcpServers: {
        github: {
          type: 'http',
          url: 'https://mcp.example.com/gw/mcp/github',
          ...headers('Bearer ${GATEWAY_KEY}'),
        },
      },
    })
    expect(err).to.include('.mcp.json').and.include('--write').and.include('GATEWAY_KEY')
    expect(readdirSync(folder)).to.deep.equal(['gateway.yaml'])
  })

  it('names all upstreams unless one is chosen', async () => {
    const { out } = await connect('cursor')
    const url = (name: string) => `https://mcp.example.com/gw/mcp/${name}`
    expect(JSON.parse(out)).to.deep.equal({
      mcpServers: {
        github: { url: url('github'), ...headers('Bearer ${env:GATEWAY_KEY}') },
        files: { url: url('files'), ...headers('Bearer ${env:GATEWAY_KEY}') },
      },
    })
  })

  it('has vscode ask for the key', async () => {
    const { out, err } = await connect('vscode', '--server', 'files')
    const { servers, inputs } = JSON.parse(out) as { servers: Record<string, unknown>; inputs: unknown[] }
    expect(servers['files']).to.deep.include(headers('Bearer ${input:gateway-key}'))
    expect(inputs).to.deep.equal([
      { type: 'promptString', id: 'gateway-key', description: 'Key of the MCP gateway', password: true },
    ])
    expect(err).to.include('asks for the key')
  })

  it('gives claude-desktop a pinned bridge that reads the key from a file of one’s own', async () => {
    const { out, err } = await connect('claude-desktop', '--server', 'files')
    const { command, args } = JSON.parse(out).mcpServers.files as { command: string; args: string[] }
    expect(command).to.equal('npx')
    expect(args[1]).to.match(/^mcp-remote@\d+\.\d+\.\d+$/)
    expect(args).to.include.members(['--header-file', join(folder, '.mcp-policy-gateway', 'headers')])
    expect(args).to.not.include('--allow-http')
    expect(err).to.include('umask 077')
  })

  it('never shows or writes a key, for any client', async () => {
    for (const client of CLIENTS) {
      for (const options of [[], ['--write'], ['--json']]) {
        const { code, out, err } = await connect(client, ...options)
        expect(code, err).to.equal(0)
        expect(out + err, client).to.not.include('literal')
      }
      const { file } = JSON.parse((await connect(client, '--json')).out) as { file: string }
      expect(file.startsWith(folder), file).to.equal(true)
      expect(readFileSync(file, 'utf8')).to.not.include('literal')
    }
    expect(homedir()).to.not.equal(folder)
  })

  it('tells programs everything at once', async () => {
    const { out, err } = await connect('codex', '--server', 'github', '--json')
    expect(err).to.equal('')
    expect(JSON.parse(out)).to.deep.equal({
      client: 'codex',
      file: join(folder, '.codex', 'config.toml'),
      servers: [{ name: 'github', url: 'https://mcp.example.com/gw/mcp/github' }],
      key: { from: 'environment', name: 'GATEWAY_KEY' },
      snippet:
        '[mcp_servers.github]\nurl = "https://mcp.example.com/gw/mcp/github"\nbearer_token_env_var = "GATEWAY_KEY"\n',
      written: false,
      added: [],
      unchanged: [],
    })
  })

  describe('the address', () => {
    it('is that of the listener when none is published', async () => {
      put('gateway.yaml', 'listen: "[::1]:8443"\nupstreams: { a: { url: "http://127.0.0.1:1/" } }\n')
      const { out } = await connect('cursor')
      expect(JSON.parse(out).mcpServers.a.url).to.equal('http://[::1]:8443/mcp/a')
    })

    it('can be named, also without a configuration', async () => {
      rmSync(join(folder, 'gateway.yaml'))
      const args = ['--url', 'https://gw.example.com/', '--server', 'x', '--as', 'work_x']
      const { out } = await connect('claude-code', ...args)
      expect(JSON.parse(out).mcpServers.work_x.url).to.equal('https://gw.example.com/mcp/x')
    })

    it('is refused when nobody can know it, or when it holds a key', async () => {
      put(
        'gateway.yaml',
        'listen: 0.0.0.0:8080\nallowed_hosts: [x]\nupstreams: { a: { url: "http://x/" } }\n',
      )
      expect((await connect('cursor')).err).to.include('public_url')
      for (const url of ['https://u:p@x', 'https://x/?key=1', 'ftp://x', 'x']) {
        const { code, err } = await connect('cursor', '--url', url)
        expect(code, url).to.equal(2)
        expect(err).to.include('--url: an http or https address')
      }
    })
  })

  it('proposes what was meant', async () => {
    expect((await connect('claude-dekstop')).err).to.include('Did you mean claude-desktop?')
    expect((await connect('emacs')).err).to.include('There are: claude-code, vscode')
    const unknown = await connect('cursor', '--server', 'githb', '--json')
    expect(unknown.code).to.equal(2)
    expect(errorOf(unknown)).to.include({ code: 'not_found' })
    expect(errorOf(unknown).message).to.include('Did you mean github?')
    expect((await connect('cursor', '--as', 'x')).err).to.include('--as names one server')
    expect((await connect('cursor', '--as', 'x.y', '--server', 'github')).err).to.include('--as: letters')
  })

  describe('--write into JSON', () => {
    it('makes the file, and does nothing the second time', async () => {
      const first = await connect('vscode', '--write')
      expect(first.out).to.equal(`added github, files to ${join(folder, '.vscode/mcp.json')}\n`)
      const text = read('.vscode/mcp.json')
      const again = await connect('vscode', '--write')
      expect(again).to.deep.include({ code: 0, out: 'unchanged github, files: there already\n' })
      expect(read('.vscode/mcp.json')).to.equal(text)
    })

    it('keeps everything that is there: members, digits, indentation, line ends, mode', async () => {
      const before =
        '{\r\n\t"other": {"n": 12345678901234567890.10, "f": 1},\r\n\t"mcpServers": {\r\n\t\t"mine": {"command": "x"}\r\n\t}\r\n}\r\n'
      const file = put('.mcp.json', before)
      chmodSync(file, 0o640)
      expect((await connect('claude-code', '--server', 'github', '--write')).code).to.equal(0)
      const text = read('.mcp.json')
      expect(text).to.include('"n": 12345678901234567890.10')
      expect(text)
        .to.match(/^\t\t"mine": \{\r$/m)
        .and.match(/\}\r\n$/)
      expect(text.replaceAll('\r\n', '')).to.not.include('\n')
      const { mcpServers, other } = JSON.parse(text)
      expect(Object.keys(mcpServers)).to.deep.equal(['mine', 'github'])
      expect(other.f).to.equal(1)
      expect(statSync(file).mode & 0o777).to.equal(0o640)
      expect(readdirSync(folder).filter((name) => name.startsWith('.mcp'))).to.deep.equal(['.mcp.json'])
    })

    it('adds a question to those of vscode once', async () => {
      put('.vscode/mcp.json', '{"inputs": [{"id": "mine"}], "servers": {}}')
      await connect('vscode', '--write', '--server', 'github')
      await connect('vscode', '--write', '--server', 'files')
      const { inputs, servers } = JSON.parse(read('.vscode/mcp.json'))
      expect(inputs.map((input: { id: string }) => input.id)).to.deep.equal(['mine', 'gateway-key'])
      expect(Object.keys(servers)).to.deep.equal(['github', 'files'])
    })

    it('follows a link and leaves it one', async () => {
      const target = put('dotfiles/cursor.json', '{}')
      mkdirSync(join(folder, '.cursor'))
      symlinkSync(target, join(folder, '.cursor/mcp.json'))
      expect((await connect('cursor', '--write')).code).to.equal(0)
      expect(lstatSync(join(folder, '.cursor/mcp.json')).isSymbolicLink()).to.equal(true)
      expect(Object.keys(JSON.parse(readFileSync(target, 'utf8')).mcpServers)).to.deep.equal([
        'github',
        'files',
      ])
    })

    it('refuses politely what it could not keep, and changes nothing', async () => {
      for (const text of [
        '// mine\n{}',
        '{"mcpServers": {},}',
        '{"a": 1, "a": 2}',
        '\ufeff{}',
        '[]',
        '"text"',
        '{"mcpServers": []}',
        '{"mcpServers": 7}',
        `${'['.repeat(200)}${']'.repeat(200)}`,
      ]) {
        const file = put('.cursor/mcp.json', text)
        const refused = await connect('cursor', '--write', '--json')
        expect(refused.code, text).to.equal(2)
        expect(errorOf(refused).code, text).to.equal('not_mergeable')
        expect(errorOf(refused).message).to.include('without --write')
        expect(readFileSync(file, 'utf8')).to.equal(text)
      }
      put('.cursor/mcp.json', Buffer.from([0x7b, 0xff, 0x7d]).toString('latin1'))
      writeFileSync(join(folder, '.cursor/mcp.json'), Buffer.from([0x7b, 0xff, 0x7d]))
      expect((await connect('cursor', '--write')).err).to.include('UTF-8')
      put('.vscode/mcp.json', '{"inputs": {}}')
      expect((await connect('vscode', '--write')).err).to.include('"inputs"')
    })

    it('does not replace an entry of the same name', async () => {
      const text = '{"mcpServers": {"github": {"url": "https://elsewhere.example.com"}}}'
      put('.cursor/mcp.json', text)
      const refused = await connect('cursor', '--write', '--json')
      expect(errorOf(refused)).to.include({ code: 'exists' })
      expect(errorOf(refused).message).to.include('github').and.include('--as')
      expect(read('.cursor/mcp.json')).to.equal(text)
      const renamed = await connect('cursor', '--write', '--server', 'github', '--as', 'gw')
      expect(renamed.code).to.equal(0)
      expect(Object.keys(JSON.parse(read('.cursor/mcp.json')).mcpServers)).to.deep.equal(['github', 'gw'])
    })

    it('says so when the file cannot be read or written', async () => {
      mkdirSync(join(folder, '.mcp.json'))
      expect(await connect('claude-code', '--write')).to.deep.include({ code: 2 })
      writeFileSync(join(folder, '.cursor'), '')
      const { code, err } = await connect('cursor', '--write')
      expect(code).to.equal(2)
      expect(err).to.include('cannot be read or written (ENOTDIR)')
    })
  })

  describe('--write into TOML', () => {
    const ENTRY =
      '[mcp_servers.github]\nurl = "https://mcp.example.com/gw/mcp/github"\nbearer_token_env_var = "GATEWAY_KEY"\n'
    const write = () => connect('codex', '--server', 'github', '--write')

    it('appends a table, once', async () => {
      const before = 'model = "x"\n\n[mcp_servers.mine]\ncommand = "y" # mine\n[tui]\ntheme = "z"'
      put('.codex/config.toml', before)
      expect((await write()).out).to.match(/^added github to /)
      expect(read('.codex/config.toml')).to.equal(`${before}\n\n${ENTRY}`)
      expect((await write()).out).to.equal('unchanged github: there already\n')
      expect(read('.codex/config.toml')).to.equal(`${before}\n\n${ENTRY}`)
    })

    it('makes the file, and adds to an empty one', async () => {
      await write()
      expect(read('.codex/config.toml')).to.equal(ENTRY)
      put('.codex/config.toml', '\n')
      await write()
      expect(read('.codex/config.toml')).to.equal(`\n${ENTRY}`)
    })

    it('does not add a second table of the same name', async () => {
      for (const table of [
        '[mcp_servers.github]\nurl = "https://elsewhere.example.com"\n',
        '  [ mcp_servers . github ] # mine\ncommand = ["x"]\n',
        `${ENTRY}enabled = false\n`,
      ]) {
        put('.codex/config.toml', table)
        const { code, err } = await write()
        expect(code, table).to.equal(2)
        expect(err).to.include('has mcp_servers.github already')
        expect(read('.codex/config.toml')).to.equal(table)
      }
    })

    it('refuses politely where servers are written in another way', async () => {
      for (const text of [
        'mcp_servers = { github = { url = "x" } }\n',
        '[mcp_servers]\ngithub = { url = "x" }\n',
        '[mcp_servers."github"]\nurl = "x"\n',
        '["mcp_servers".github]\nurl = "x"\n',
        'mcp_servers.github.url = "x"\n',
        'note = """\n[mcp_servers.github]\n"""\n',
      ]) {
        put('.codex/config.toml', text)
        const { code, err } = await write()
        expect(code, text).to.equal(2)
        expect(err).to.include('left as it is')
        expect(read('.codex/config.toml')).to.equal(text)
      }
    })

    it('looks where CODEX_HOME says', async () => {
      const home = join(folder, 'elsewhere')
      await withEnvironment({ CODEX_HOME: home }, () =>
        runCli(['connect', 'codex', '--write', '--config', join(folder, 'gateway.yaml')]),
      )
      expect(existsSync(join(home, 'config.toml'))).to.equal(true)
    })
  })
})
