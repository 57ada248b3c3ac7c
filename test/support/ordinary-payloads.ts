/** Tool calls and answers as they come up every day, with nothing secret in them: whatever is redacted in one is too much. */
import { createHash } from 'node:crypto'

const hash = (seed: string, algorithm = 'sha256'): string => createHash(algorithm).update(seed).digest('hex')
const bytes = (seed: string, count: number): Buffer =>
  Buffer.concat(
    Array.from({ length: Math.ceil(count / 32) }, (_, index) => Buffer.from(hash(`${seed}${index}`), 'hex')),
  ).subarray(0, count)
const uuid = (seed: string): string =>
  hash(seed).replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-4$3-a$4-$5')

const CODE: readonly string[] = [
  'export function parseToken(text: string): Token | null {\n  const token = tokens[index]\n  if (token === undefined) return null\n  return { kind: token.kind, text }\n}',
  'def reset_password(user, new_password):\n    validate(new_password)\n    user.password = hash_password(new_password)\n    user.save()',
  'const password = process.env.DB_PASSWORD ?? readSecret("db")\nconst client = new Client({ password })',
  'if (!request.headers.authorization?.startsWith("Bearer ")) throw new Unauthorized()',
  'let secret = std::env::var("APP_SECRET").expect("APP_SECRET must be set");',
  'func (s *Server) Token(ctx context.Context, key string) (string, error) {\n\treturn s.tokens.Get(ctx, key)\n}',
  'password: str = Field(min_length=12)\ntoken: Optional[str] = None',
  'public String getPassword() { return password; }',
  'api_key = config["api_key"]\nsession = Session(api_key=api_key)',
  'const sk = skeleton()\nconst task = "task-runner-for-all-the-things"',
  'assert_eq!(cookie.name(), "session");',
  'password=$DB_PASSWORD psql -h db -U app main',
  'curl -H "Authorization: Bearer $TOKEN" https://api.example.com/v1/things',
  'docker login -u ci --password-stdin registry.example.com < token.txt',
]

const PROSE: readonly string[] = [
  'The secret of a good soup is patience. Basic ingredients are enough; the token gesture is a leaf of parsley.',
  'Please reset your password within 24 hours. Your password must have at least twelve characters.',
  'Minutes: 1. Budget. 2. API keys are rotated by Ada (key: see vault). 3. The access token expires after an hour.',
  'Password: please ask the office. PIN pad at the door is broken.',
  'Bearer bonds and basic authentication are two different things, authorization is a third.',
  'Ticket 4711: the customer asks for a refund of order 2026-11-0815, IBAN withheld.',
  'My secret: I never liked the color of the new logo.',
  'Cookie: a small cake. Set-Cookie: an HTTP header field.',
  'He forgot the secret key=value syntax; the api key, however, was fine.',
  'The session token lives for 30 minutes; the refresh token for 30 days. See RFC 6749.',
]

const CONFIGURATION: readonly string[] = [
  'apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: app\n    env:\n    - name: DB_PASSWORD\n      valueFrom:\n        secretKeyRef:\n          name: db\n          key: password\n  imagePullSecrets:\n  - name: registry',
  'services:\n  db:\n    image: postgres:17\n    environment:\n      POSTGRES_PASSWORD: ${POSTGRES_PASSWORD}\n',
  '[profile.release]\nlto = true\n[dependencies]\ntokenizers = "0.21"\nsecrecy = "0.10"',
  'resource "aws_iam_role" "app" {\n  name = "app"\n  tags = { key = "value" }\n}',
  'password_file = /run/secrets/db\npassword_encryption = scram-sha-256',
]

const SQL: readonly string[] = [
  "select id, email from users where created_at > now() - interval '7 days' order by id limit 50",
  'alter table sessions add column token_hash bytea not null',
  "update settings set value = 'dark' where key = 'theme'",
  'create role reader; grant select on all tables in schema public to reader',
  'select password_hash is null as no_password, count(*) from users group by 1',
  "insert into tokens (token_count, model) values (1024, 'small')",
]

const LINKS: readonly string[] = [
  'https://example.com/a/b?page=2&sort=asc#tokens',
  'https://github.com/acme/site/blob/3f9c2a1b5d7e8f90a1b2c3d4e5f60718293a4b5c/src/auth/token.ts#L10-L20',
  'mailto:bob@example.com',
  'git@github.com:acme/site.git',
  'postgres://app@db.internal:5432/main',
  's3://bucket/path/to/secret-santa/list.csv',
  '/home/ada/.ssh/config',
  '/srv/app/node_modules/@scope/keytar/lib/keytar.js',
  'C:\\Users\\ada\\Documents\\passwords.docx',
  'arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf',
  'urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8',
]

/** Name -> payload. The same every time. */
export function ordinaryPayloads(): ReadonlyMap<string, unknown> {
  const all = new Map<string, unknown>()
  const add = (kind: string, list: readonly unknown[]): void =>
    list.forEach((value, index) => void all.set(`${kind} ${index}`, value))
  add(
    'code',
    CODE.map((text) => ({ path: 'src/a.ts', content: text, encoding: 'utf-8' })),
  )
  add(
    'prose',
    PROSE.map((text) => ({ content: [{ type: 'text', text }] })),
  )
  add(
    'configuration',
    CONFIGURATION.map((text) => ({ file: 'x.yaml', text })),
  )
  add(
    'sql',
    SQL.map((sql) => ({ sql, params: [1, 'x', null] })),
  )
  add(
    'link',
    LINKS.map((uri) => ({ uri, name: uri.split('/').at(-1) })),
  )
  add(
    'identifiers',
    numbered(40, (seed) => ({
      id: uuid(seed),
      commit: hash(seed, 'sha1'),
      digest: `sha256:${hash(seed)}`,
      etag: `"${hash(seed, 'md5')}"`,
      trace: hash(seed).slice(0, 32),
      base58: BigInt(`0x${hash(seed)}`).toString(36),
      integrity: `sha512-${bytes(seed, 64).toString('base64')}`,
      blob: bytes(seed, 48).toString('base64url'),
    })),
  )
  add(
    'image',
    numbered(10, (seed) => ({
      content: [
        { type: 'image', mimeType: 'image/png', data: `iVBORw0KGgo${bytes(seed, 3000).toString('base64')}` },
      ],
    })),
  )
  add(
    'numbers',
    numbered(20, (seed) => {
      const number = Number.parseInt(hash(seed).slice(0, 12), 16)
      return {
        amount: number / 100,
        order: String(number),
        phone: `+49 30 ${number % 10_000_000}`,
        at: new Date(number / 200).toISOString(),
      }
    }),
  )
  add(
    'usage',
    numbered(10, (seed) => ({
      usage: { input_tokens: 12, output_tokens: 34, max_tokens: 4096, token_count: 46, tokens: [1, 2] },
      nextPageToken: bytes(seed, 12).toString('base64'),
      cursor: bytes(seed, 24).toString('base64'),
      progressToken: 7,
      sort_key: 'name',
      public_key: `ssh-ed25519 ${bytes(seed, 51).toString('base64')} ada@host`,
      primary_key: 'id',
      author: 'Ada',
      password_required: true,
      has_secret: false,
      secretName: 'db',
      passwordPolicy: 'twelve characters',
      tokenType: 'Bearer',
      authentication: 'none',
      authorized_by: 'ops',
      pinned: 'yes',
      keyword: 'refund',
      apiKeyId: `key${seed}`,
      cookieConsent: 'all',
      session: uuid(seed),
    })),
  )
  return all
}

function numbered(count: number, make: (seed: string) => unknown): readonly unknown[] {
  return Array.from({ length: count }, (_, index) => make(`n${index}`))
}
