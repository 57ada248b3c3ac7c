import { execFile } from 'node:child_process'
import { createHash, createHmac } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { expect } from 'chai'
import { buildForBundle, buildPolicy } from '../../src/policy/build.ts'
import type { BundleContent } from '../../src/policy/bundle.ts'
import { makeBundle, parseBundle, resequenceBundle, toCompiledPolicy } from '../../src/policy/bundle.ts'
import { ARCHIVE_BOUNDS, packArchive, unpackArchive } from '../../src/policy/bundle-archive.ts'
import { BundleRefused } from '../../src/policy/bundle-error.ts'
import { SIGNATURES_FILE, signFiles } from '../../src/policy/bundle-signature.ts'
import { createCompiler } from '../../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../../src/policy/compiler-artifact.ts'
import { PolicyFault } from '../../src/policy/host-fault.ts'
import { meter } from '../../src/policy/meter.ts'
import { parsePrivateKey, parsePublicKey } from '../../src/signing-key.ts'
import type { KeyPair } from './bundle-fixture.ts'
import { contentOf, edition, filesOf, makeKeys, rawArchive, tarOf } from './bundle-fixture.ts'
import { callOf, fixtureCompiler, roomOn } from './engine-fixture.ts'

const DATA = { labels: { 'ü\u2028': ['<a>', 1.5, -0, null], teams: { a: 'é' } } }
const SOURCES = {
  'authz/rules.rego': edition('one'),
  'authz/más.rego': 'package gateway.authz\n\ndeny contains "never" if input.target.name == "x"\n',
}

async function refusal(work: Promise<unknown>): Promise<BundleRefused> {
  const error = await work.then(
    () => new Error('it was taken'),
    (thrown: unknown) => thrown,
  )
  expect(error).to.be.instanceOf(BundleRefused)
  return error as BundleRefused
}

const sha256 = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex')

describe('policy bundles', function () {
  this.timeout(60_000)
  let content: Omit<BundleContent, 'sequence'>
  let keys: KeyPair
  let unsigned: Buffer
  let signed: Buffer

  before(async () => {
    content = await contentOf(SOURCES, DATA)
    keys = makeKeys()
    unsigned = await makeBundle({ ...content, sequence: 0 }, null)
    signed = await makeBundle({ ...content, sequence: 7 }, keys.signer)
  })

  /** A bundle with other files, and a manifest that names them; signed by nobody. */
  async function altered(change: (files: Map<string, Uint8Array>) => void, manifest = {}): Promise<Buffer> {
    const files = await filesOf(unsigned)
    change(files)
    const document = JSON.parse(Buffer.from(files.get('.manifest') ?? '').toString('utf8'))
    const named = Object.fromEntries(
      [...files].filter(([name]) => name !== '.manifest').map(([name, bytes]) => [name, sha256(bytes)]),
    )
    Object.assign(document.metadata.gateway, { files: named }, manifest)
    files.set('.manifest', Buffer.from(JSON.stringify(document)))
    return await packArchive(files)
  }

  it('give the policy that the same folder gives', async () => {
    const bundle = await parseBundle(unsigned, null)
    expect(bundle).to.deep.include({ signature: 'none' })
    expect(bundle.manifest).to.deep.include({ sequence: 0, opa: content.policy.opa })
    const policy = toCompiledPolicy(bundle)
    const built = await buildPolicy(
      { rego: SOURCES, data: DATA },
      { compiler: await fixtureCompiler(), cacheDir: null },
    )
    expect(policy.digest).to.equal(built.digest)
    expect(policy.revision).to.equal(built.revision)
    expect(policy.sources).to.deep.equal({ ...built.sources })
    expect(policy.data).to.deep.equal(JSON.parse(JSON.stringify(built.data)))
    const { allowedBy } = (await roomOn(policy)).decide(callOf())
    expect(allowedBy).to.deep.equal(['one'])
  })

  it('are the same bytes for the same sources: other compiler processes, another order, one rule in thirty files', async () => {
    const names = Array.from({ length: 30 }, (_, at) => `authz/part-${at}.rego`)
    const part = (name: string): string =>
      `package gateway.authz\n\ndeny contains "${name.slice(6, -5)}" if input.target.name == "${name}"\n`
    const rego = Object.fromEntries([...names.map((name) => [name, part(name)]), ['a.rego', edition('one')]])
    const turned = Object.fromEntries(Object.entries(rego).reverse())
    const digests = new Set<string>()
    for (const sources of [rego, turned, rego]) {
      const cache = join(tmpdir(), `mcp-policy-gateway-test-${process.getuid?.() ?? 0}`)
      const compiler = createCompiler({ artifact: await loadCompilerArtifact(cache) })
      try {
        const built = await buildForBundle({ rego: sources, data: DATA }, compiler)
        digests.add(sha256(await makeBundle({ ...built, sequence: 3 }, null)))
      } finally {
        await compiler.close()
      }
    }
    expect(digests.size).to.equal(1)
  })

  it('name no time, no owner and no system', () => {
    const tar = tarOf(unsigned)
    expect(tar.subarray(136, 147).toString()).to.equal('0000000000 ')
    expect([...unsigned.subarray(0, 10)]).to.deep.equal([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255])
  })

  describe('that were changed', () => {
    it('are refused, whichever file it is', async () => {
      for (const bundle of [unsigned, signed]) {
        for (const name of (await filesOf(bundle)).keys()) {
          const files = await filesOf(bundle)
          const bytes = Buffer.from(files.get(name) ?? '')
          bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1
          files.set(name, bytes)
          const packed = await packArchive(files)
          const key = bundle === signed ? [keys.verifier] : null
          const error = await refusal(parseBundle(packed, key).then(toCompiledPolicy))
          expect(error.reason, name).to.equal(
            bundle === signed ? 'signature' : name === '.manifest' ? error.reason : 'content',
          )
        }
      }
    })

    it('are refused when a file is missing, added or renamed', async () => {
      for (const name of (await filesOf(signed)).keys()) {
        const files = await filesOf(signed)
        const bytes = files.get(name) ?? new Uint8Array()
        files.delete(name)
        await refusal(parseBundle(await packArchive(files), [keys.verifier]))
        await refusal(parseBundle(await packArchive(files.set(`${name}.rego`, bytes)), [keys.verifier]))
      }
      const files = (await filesOf(unsigned)).set('authz/extra.rego', Buffer.from('package x'))
      expect((await refusal(parseBundle(await packArchive(files), null))).message).to.include('extra.rego')
    })

    it('are not loaded when the dictionary does not know what the module tells, although the manifest agrees', async () => {
      const other = await contentOf({ 'a.rego': 'package gateway.authz\n\nallow contains "a"\n' })
      const packed = await altered((files) =>
        files.set('dictionary.json', Buffer.from(JSON.stringify(other.policy.dictionary))),
      )
      const policy = toCompiledPolicy(await parseBundle(packed, null))
      const error = await roomOn(policy).then(
        () => null,
        (thrown: Error) => thrown,
      )
      expect(error).to.be.instanceOf(PolicyFault)
    })

    it('are refused when revision and sources disagree, or the data would be a decision', async () => {
      const renamed = await altered((files) => files.set('authz/rules.rego', Buffer.from(edition('two'))))
      const revision = await refusal(parseBundle(renamed, null).then(toCompiledPolicy))
      expect(revision.message).to.include('revision')
      const overlay = '{"gateway":{"decision":{"allow":true}}}'
      const data = await altered((files) => files.set('data.json', Buffer.from(overlay)))
      expect((await refusal(parseBundle(data, null).then(toCompiledPolicy))).message).to.include(
        'data.gateway.decision belongs to the gateway',
      )
      const twice = await altered((files) => files.set('data.json', Buffer.from('{"a":1,"a":2}')))
      await refusal(parseBundle(twice, null).then(toCompiledPolicy))
    })

    it('do not bring a module that the meter does not know', async () => {
      for (const module of [Buffer.from('no module'), meter(content.module)]) {
        const packed = await altered((files) => files.set('policy.wasm', module))
        const error = await refusal(parseBundle(packed, null).then(toCompiledPolicy))
        expect(error.reason).to.equal('module')
      }
    })

    it('are refused for a sequence, format or name of OPA that is none', async () => {
      const wrong = [
        { sequence: -1 },
        { sequence: 1.5 },
        { sequence: '7' },
        { format: 2 },
        { opa: '\n' },
        { files: [] },
      ]
      for (const manifest of wrong) {
        expect((await refusal(parseBundle(await altered(() => undefined, manifest), null))).reason).to.equal(
          'manifest',
        )
      }
    })
  })

  describe('signed', () => {
    for (const kind of ['ec', 'rsa'] as const) {
      it(`with ${kind} are taken with that key, among others, and with no other`, async () => {
        const pair = makeKeys(kind)
        const packed = await makeBundle({ ...content, sequence: 1 }, pair.signer)
        const bundle = await parseBundle(packed, [
          makeKeys('ec').verifier,
          makeKeys('rsa').verifier,
          pair.verifier,
        ])
        expect(bundle.signature).to.equal('verified')
        expect((await parseBundle(packed, null)).signature).to.equal('unchecked')
        const error = await refusal(parseBundle(packed, [makeKeys('ec').verifier, makeKeys('rsa').verifier]))
        expect(error.reason).to.equal('signature')
      })
    }

    it('are what a key asks for: an unsigned one is refused', async () => {
      const error = await refusal(parseBundle(unsigned, [keys.verifier]))
      expect(error).to.include({ reason: 'signature' })
      expect(error.message).to.include('not signed')
    })

    /** A bundle with this text as its signature. */
    async function withSignatures(text: string): Promise<Buffer> {
      return await packArchive((await filesOf(signed)).set(SIGNATURES_FILE, Buffer.from(text)))
    }
    const base64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')

    it('are not taken with no algorithm, with a public key as HMAC secret, or with an algorithm of another kind of key', async () => {
      const { signatures } = JSON.parse(
        Buffer.from((await filesOf(signed)).get(SIGNATURES_FILE) ?? '').toString('utf8'),
      ) as { signatures: string[] }
      const [, payload = '', signature = ''] = (signatures[0] ?? '').split('.')
      const hmac = (secret: string | Buffer): string => {
        const head = `${base64({ alg: 'HS256' })}.${payload}`
        return `${head}.${createHmac('sha256', secret).update(head).digest('base64url')}`
      }
      const tokens = [
        `${base64({ alg: 'none' })}.${payload}.`,
        `${base64({ alg: 'None' })}.${payload}.${signature}`,
        `${base64({ alg: 'RS256' })}.${payload}.${signature}`,
        `${base64({ alg: 'ES256', crit: ['x'], x: 1 })}.${payload}.${signature}`,
        hmac(keys.publicPem),
        hmac(keys.publicPem.trim()),
        hmac(keys.verifier.key.export({ type: 'spki', format: 'der' })),
        'x',
        '',
      ]
      for (const token of tokens) {
        const packed = await withSignatures(JSON.stringify({ signatures: [token] }))
        expect((await refusal(parseBundle(packed, [keys.verifier]))).reason, token).to.equal('signature')
      }
    })

    it('have one signature, over SHA-256 of exactly their files', async () => {
      const text = Buffer.from((await filesOf(signed)).get(SIGNATURES_FILE) ?? '').toString('utf8')
      const { signatures } = JSON.parse(text)
      for (const wrong of [
        '',
        '[]',
        '{}',
        '{"signatures":[]}',
        '{"signatures":[1]}',
        JSON.stringify({ signatures: [...signatures, ...signatures] }),
      ])
        await refusal(parseBundle(await withSignatures(wrong), [keys.verifier]))
      const others = await filesOf(signed)
      for (const files of [
        new Map(),
        new Map([...others].slice(1)),
        new Map([...others, ['x', Buffer.from('')]]),
      ]) {
        const packed = await withSignatures(await signFiles(files, keys.signer))
        expect((await refusal(parseBundle(packed, [keys.verifier]))).message).to.include(
          'not those that were signed',
        )
      }
    })

    it('keep their content under another sequence, which the old signature does not cover', async () => {
      const again = await resequenceBundle(await parseBundle(signed, [keys.verifier]), 8, keys.signer)
      const bundle = await parseBundle(again, [keys.verifier])
      expect(bundle.manifest.sequence).to.equal(8)
      expect(toCompiledPolicy(bundle).digest).to.equal(content.policy.digest)
      const files = await filesOf(signed)
      files.set('.manifest', (await filesOf(again)).get('.manifest') ?? new Uint8Array())
      await refusal(parseBundle(await packArchive(files), [keys.verifier]))
    })

    it('take keys of P-256 and RSA of 2048 bits, and tell nothing of others', () => {
      expect(() => parsePublicKey(keys.privatePem)).to.throw('private key')
      expect(() => parsePublicKey('secret text')).to.throw(/^it is no PEM public key$/)
      expect(() => parsePrivateKey(keys.publicPem)).to.throw(/^it is no PEM private key/)
      expect(() => parsePrivateKey(`${keys.privatePem.slice(0, 60)}\n`)).to.throw(/^it is no PEM private key/)
    })
  })

  describe('as archives', () => {
    it('hold plain files with relative names, each once', async () => {
      const hostile = [
        [{ path: '../outside' }],
        [{ path: '/etc/passwd' }],
        [{ path: 'a/../b' }],
        [{ path: 'a//b' }],
        [{ path: './a' }],
        [{ path: 'a\\b' }],
        [{ path: 'a\u202eb' }],
        [{ path: 'link', type: 'SymbolicLink', linkpath: '/etc/passwd' }],
        [{ path: 'a' }, { path: 'hard', type: 'Link', linkpath: 'a' }],
        [{ path: 'folder/', type: 'Directory' }],
        [
          { path: 'a', content: '1' },
          { path: 'a', content: '2' },
        ],
        [
          { path: 'pax', type: 'ExtendedHeader', content: '19 path=other-name\n' },
          { path: 'a', content: '1' },
        ],
        [
          { path: 'pax', type: 'ExtendedHeader', content: '9 size=0\n' },
          { path: 'a', content: 'hidden' },
        ],
        [{ path: 'pax', type: 'GlobalExtendedHeader', content: '10 path=b\n' }, { path: 'a' }],
        [{ path: 'a', mode: 0o4755 }],
        [{ path: 'b' }, { path: 'a' }],
      ] as const
      for (const entries of hostile) {
        expect((await refusal(unpackArchive(rawArchive(entries)))).reason, JSON.stringify(entries)).to.equal(
          'archive',
        )
      }
      expect([
        ...(await unpackArchive(rawArchive([{ path: 'a', content: '1' }, { path: 'b' }]))).keys(),
      ]).to.deep.equal(['a', 'b'])
    })

    it('are read in one way only: nothing behind the end, no second archive', async () => {
      const tar = tarOf(unsigned)
      for (const bytes of [
        Buffer.concat([tar, Buffer.from('more')]),
        Buffer.concat([tar, Buffer.alloc(512)]),
        Buffer.concat([tar, tar]),
        tar.subarray(0, -512),
        tar.subarray(0, 5000),
        Buffer.alloc(0),
        Buffer.alloc(1024),
        Buffer.from('x'.repeat(2000)),
      ]) {
        expect((await refusal(unpackArchive(gzipSync(bytes)))).reason).to.equal('archive')
      }
      expect((await refusal(unpackArchive(Buffer.from('no gzip')))).message).to.include('gzip')
      await refusal(unpackArchive(unsigned.subarray(0, -20)))
    })

    it('are bounded: size, what they unpack to, number of files', async () => {
      const bomb = gzipSync(Buffer.alloc(ARCHIVE_BOUNDS.maxUnpackedBytes + 1))
      expect(bomb.length).to.be.lessThan(1_000_000)
      expect((await refusal(unpackArchive(bomb))).message).to.include('unpacks to more')
      const small = { maxPackedBytes: 1000, maxUnpackedBytes: 100_000, maxFiles: 3 }
      expect((await refusal(unpackArchive(unsigned, small))).message).to.include('larger than 1000')
      const four = rawArchive(['a', 'b', 'c', 'd'].map((path) => ({ path })))
      expect((await refusal(unpackArchive(four, small))).message).to.include('more than 3 files')
    })

    it('keep long names and those that are not ASCII', async () => {
      const files = new Map([
        [`${'deep/'.repeat(30)}${'n'.repeat(120)}.rego`, Buffer.from('a')],
        ['über/🔑.rego', Buffer.from('b')],
      ])
      const read = await unpackArchive(await packArchive(files))
      expect(new Map([...read].map(([name, bytes]) => [name, Buffer.from(bytes)]))).to.deep.equal(files)
    })
  })

  describe('as OPA’s own package reads them', () => {
    const go = (...args: string[]) =>
      promisify(execFile)('go', args, { cwd: fileURLToPath(new URL('../../compiler', import.meta.url)) })
    const program = fileURLToPath(new URL('./opa-bundle/main.go', import.meta.url))

    it('have sources that decide the same, and signatures that it verifies', async function () {
      this.timeout(300_000)
      await go('list', '-m', 'github.com/open-policy-agent/opa').catch(() => this.skip())
      const folder = await mkdtemp(join(tmpdir(), 'gateway-bundle-'))
      try {
        const binary = join(folder, 'read')
        await go('build', '-o', binary, program)
        for (const [kind, alg] of [
          ['ec', 'ES256'],
          ['rsa', 'RS256'],
        ] as const) {
          const pair = makeKeys(kind)
          const packed = await makeBundle({ ...content, sequence: 4 }, pair.signer)
          await writeFile(join(folder, 'b.tar.gz'), packed)
          await writeFile(join(folder, 'key.pem'), pair.publicPem)
          const input = '{"principal":{"roles":["developer"]},"target":{"name":"a"}}'
          const { stdout } = await promisify(execFile)(binary, [
            join(folder, 'b.tar.gz'),
            join(folder, 'key.pem'),
            alg,
            input,
          ])
          const read = JSON.parse(stdout)
          expect(read).to.deep.include({ revision: content.policy.revision, roots: [''], modules: 3 })
          expect(read.data).to.deep.equal(JSON.parse(JSON.stringify(DATA)))
          expect(read.decision).to.deep.include({ allow: true, allowed_by: ['one'], denied_by: [] })
          await writeFile(join(folder, 'key.pem'), makeKeys(kind).publicPem)
          const error = await promisify(execFile)(binary, [
            join(folder, 'b.tar.gz'),
            join(folder, 'key.pem'),
            alg,
            input,
          ]).catch((thrown: Error) => thrown)
          expect(error).to.be.instanceOf(Error)
        }
      } finally {
        await rm(folder, { recursive: true, force: true })
      }
    })
  })
})
