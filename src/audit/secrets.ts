/**
 * What a secret looks like: names of members that hold one, and shapes of values that are one. Pure.
 *
 * Every pattern takes linear time on any text. That is what the bounded counts, the look-behinds (a pattern may begin only
 * where a run of its characters begins) and the fixed prefixes are for: no text makes two attempts cross the same run.
 */

import type { WordFinder, Words } from './word-finder.ts'
import { createWordFinder } from './word-finder.ts'

/** One kind of value that is a secret wherever it stands. */
interface Detector {
  readonly kind: string
  /** A text without any of these cannot match. Lower case for patterns with the `i` flag. */
  readonly anchors: readonly string[]
  /** Global. Group `keep` (before the secret) stays readable. */
  readonly pattern: RegExp
  /** Decides on a candidate; absent = every match is one. */
  readonly accept?: (secret: string) => boolean
}

/** A secret found in a text. */
export interface Finding {
  readonly kind: string
  readonly secret: string
}

/** Tokens with a prefix that nobody uses for anything else: kind, prefixes, what follows. */
const PREFIXED: readonly (readonly [kind: string, prefixes: readonly string[], rest: string])[] = [
  ['gateway_key', ['gwk_'], '[\\w-]{16,}'],
  ['github_token', ['ghp_', 'gho_', 'ghu_', 'ghs_', 'ghr_'], '[A-Za-z0-9]{20,}'],
  ['github_token', ['github_pat_'], '\\w{20,}'],
  [
    'gitlab_token',
    ['glpat-', 'gldt-', 'glrt-', 'glptt-', 'glsoat-', 'glagent-', 'glft-', 'glcbt-', 'glimt-', 'gloas-'],
    '[\\w.-]{16,}',
  ],
  [
    'slack_token',
    ['xoxa-', 'xoxb-', 'xoxe-', 'xoxe.', 'xoxo-', 'xoxp-', 'xoxr-', 'xoxs-', 'xapp-'],
    '[\\w.-]{10,}',
  ],
  ['slack_webhook', ['hooks.slack.com/'], '[\\w/]{20,}'],
  ['discord_webhook', ['discord.com/api/webhooks/', 'discordapp.com/api/webhooks/'], '[\\w/-]{20,}'],
  ['stripe_key', ['sk_live_', 'sk_test_', 'rk_live_', 'rk_test_', 'whsec_'], '[A-Za-z0-9+/=]{10,}'],
  ['google_api_key', ['AIza'], '[\\w-]{35}'],
  ['google_oauth', ['ya29.', 'GOCSPX-'], '[\\w-]{20,}'],
  ['npm_token', ['npm_'], '[A-Za-z0-9]{30,}'],
  ['pypi_token', ['pypi-'], '[\\w-]{16,}'],
  ['rubygems_key', ['rubygems_'], '[0-9a-f]{40,}'],
  ['docker_token', ['dckr_pat_', 'dckr_oat_'], '[\\w-]{20,}'],
  ['anthropic_key', ['sk-ant-'], '[\\w-]{16,}'],
  ['huggingface_token', ['hf_'], '[A-Za-z0-9]{30,}'],
  ['groq_key', ['gsk_'], '[A-Za-z0-9]{40,}'],
  ['xai_key', ['xai-'], '[A-Za-z0-9]{40,}'],
  ['perplexity_key', ['pplx-'], '[A-Za-z0-9]{40,}'],
  ['replicate_token', ['r8_'], '[A-Za-z0-9]{30,}'],
  ['digitalocean_token', ['dop_v1_', 'doo_v1_', 'dor_v1_'], '[0-9a-f]{40,}'],
  ['heroku_key', ['HRKU-'], '[\\w-]{20,}'],
  ['shopify_token', ['shpat_', 'shpca_', 'shppa_', 'shpss_'], '[0-9a-fA-F]{32}'],
  ['square_token', ['sq0atp-', 'sq0csp-', 'EAAA'], '[\\w-]{22,}'],
  ['vault_token', ['hvs.', 'hvb.', 'hvr.'], '[\\w-]{20,}'],
  ['databricks_token', ['dapi'], '[0-9a-f]{32}'],
  ['linear_key', ['lin_api_', 'lin_oauth_'], '[A-Za-z0-9]{30,}'],
  ['notion_token', ['ntn_', 'secret_'], '[A-Za-z0-9]{40,}'],
  ['postman_key', ['PMAK-'], '[0-9a-f-]{40,}'],
  ['newrelic_key', ['NRAK-'], '[A-Z0-9]{20,}'],
  ['grafana_token', ['glsa_', 'glc_'], '[\\w+/=]{32,}'],
  ['doppler_token', ['dp.pt.', 'dp.st.', 'dp.ct.', 'dp.sa.'], '[\\w.-]{30,}'],
  ['atlassian_token', ['ATATT3', 'ATCTT3', 'ATBB'], '[\\w=-]{24,}'],
  ['age_key', ['AGE-SECRET-KEY-1'], '[0-9A-Za-z]{40,}'],
  ['planetscale_token', ['pscale_tkn_', 'pscale_pw_', 'pscale_oauth_'], '[\\w.-]{20,}'],
  ['supabase_key', ['sbp_', 'sb_secret_'], '\\w{20,}'],
  ['tailscale_key', ['tskey-'], '[\\w-]{16,}'],
  ['sentry_token', ['sntrys_', 'sntryu_'], '[\\w+/=]{32,}'],
  ['figma_token', ['figd_'], '[\\w-]{30,}'],
  ['pulumi_token', ['pul-'], '[0-9a-f]{40}'],
  ['artifactory_key', ['AKCp'], '[A-Za-z0-9]{40,}'],
  ['mailgun_key', ['key-'], '[0-9a-f]{32}'],
  ['aws_key_id', ['AKIA', 'ASIA', 'ABIA', 'ACCA'], '[A-Z0-9]{16}'],
  ['twilio_key', ['SK'], '[0-9a-f]{32}'],
]

/** Names after which a text such as a command, a query or a log line gives a secret: `password=..`, `"api_key": ".."`. */
const ASSIGNED =
  '(?:password|passwd|passphrase|pwd|secret|client[_-]?secret|api[_-]?key|access[_-]?key|secret[_-]?key|account[_-]?key|private[_-]?key|auth[_-]?token|access[_-]?token|refresh[_-]?token|session[_-]?token|identified by)'

const SHAPED: readonly Detector[] = [
  {
    kind: 'private_key',
    anchors: ['PRIVATE KEY', 'PuTTY-User-Key-File'],
    // Without its end line, everything up to the end of the text is the key.
    pattern:
      /(?:-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY|PuTTY-User-Key-File)[\s\S]*?(?:-----END [A-Z0-9 ]{0,60}-----|Private-MAC: \w{0,80}|$)/g,
  },
  {
    kind: 'jwt',
    anchors: ['eyJ'],
    pattern: /(?<![\w-])(?<keep>[\w-]{0,40}?)eyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*){0,3}/g,
  },
  {
    kind: 'sendgrid_key',
    anchors: ['SG.'],
    pattern: /SG\.[\w-]{16,64}\.[\w-]{16,}/g,
  },
  {
    kind: 'openai_key',
    anchors: ['sk-'],
    pattern: /(?<![A-Za-z0-9])sk-[\w-]{20,}/g,
    // A hyphenated name has no digits in it.
    accept: (secret) => /\d/.test(secret),
  },
  {
    kind: 'terraform_token',
    anchors: ['.atlasv1.'],
    pattern: /(?<![A-Za-z0-9])[A-Za-z0-9]{14}\.atlasv1\.[\w-]{40,}/g,
  },
  {
    kind: 'discord_token',
    // The first part is a number in Base64, so these are all its beginnings.
    anchors: ['MD', 'MT', 'Mj', 'Mz', 'ND', 'NT', 'Nj', 'Nz', 'OD', 'OT'],
    pattern: /(?<![\w-])[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,}/g,
  },
  {
    kind: 'telegram_token',
    anchors: [':AA'],
    pattern: /(?<!\d)\d{8,10}:AA[\w-]{32,}/g,
  },
  {
    kind: 'mailchimp_key',
    // With a digit: `-us` alone stands in `may-use` and would send every such trace through the slow walk.
    anchors: ['-us1', '-us2', '-us3', '-us4', '-us5', '-us6', '-us7', '-us8', '-us9'],
    pattern: /(?<![0-9a-f])[0-9a-f]{32}-us[1-9]\d?/g,
  },
  {
    kind: 'google_refresh_token',
    anchors: ['1//0'],
    pattern: /(?<!\d)1\/\/0[\w-]{30,}/g,
  },
  {
    kind: 'azure_secret',
    anchors: ['Q~'],
    pattern: /[\w~.-]{3}\dQ~[\w~.-]{31,}/g,
  },
  {
    kind: 'signed_url',
    anchors: ['sig=', 'x-amz-signature=', 'x-goog-signature='],
    pattern: /(?<keep>[?&](?:sig|x-amz-signature|x-goog-signature)=)[\w%+/=-]{16,}/gi,
  },
  {
    kind: 'url_credentials',
    anchors: ['://'],
    pattern: /(?<keep>:\/\/[^\s/@:?#]{0,256}:)[^\s/@]{1,512}(?=@)/g,
  },
  {
    kind: 'authorization',
    anchors: ['bearer', 'basic', 'authorization', 'cookie'],
    pattern: /(?<keep>(?<![a-z])(?:bearer|basic)\s{1,8})[\w+/=.~-]{8,}/gi,
    accept: isCredential,
  },
  {
    kind: 'authorization',
    anchors: ['authorization'],
    pattern: /(?<keep>(?<![a-z])authorization\\?["']?\s{0,4}:\s{0,4}\\?["']?)[^\s"'][^\r\n"']{3,}/gi,
    // `Bearer $TOKEN` stands in every manual.
    accept: (secret) => !/^(?:[a-z]{1,16}\s{1,4})?[$%<{]/i.test(secret),
  },
  {
    kind: 'authorization',
    anchors: ['cookie'],
    pattern: /(?<keep>(?<![a-z])(?:set-)?cookie\\?["']?\s{0,4}:\s{0,4}\\?["']?)[^\s"'][^\r\n"']{3,}/gi,
    accept: (secret) => secret.includes('='),
  },
  {
    kind: 'password',
    anchors: ['pass', 'pwd', 'secret', 'key', 'token', 'identified'],
    pattern: new RegExp(
      `(?<keep>(?<!:secretsmanager:[\\w-]{0,32}:\\d{0,16}:)${ASSIGNED}\\\\?["']?(?:\\s{0,4}(?::?={1,2}|:)\\s{0,4}|(?<=by)\\s{1,4})\\\\?["']?)[^\\s"'\\\\,;&|)}\\]]{4,}`,
      'gi',
    ),
    accept: (secret) => !isExpression(secret),
  },
]

const DETECTORS: readonly Detector[] = [
  ...PREFIXED.map(([kind, prefixes, rest]) => ({
    kind,
    anchors: prefixes,
    pattern: new RegExp(`(?<![A-Za-z0-9])(?:${prefixes.map(escapePattern).join('|')})${rest}`, 'g'),
  })),
  ...SHAPED,
]

/** A word of every pattern. */
export const SECRET_WORDS: Words = {
  exact: DETECTORS.flatMap((detector) => (detector.pattern.ignoreCase ? [] : detector.anchors)),
  anyCase: [
    ...['bearer', 'basic', 'authorization', 'cookie', 'sig=', 'signature=', 'identified by'],
    ...['passw', 'passphrase', 'pwd', 'secret'],
    ...compounds(['api', 'access', 'account', 'private'], 'key'),
    ...compounds(['auth', 'access', 'refresh', 'session'], 'token'),
  ],
}

/** Two words in one, in the spellings of {@link ASSIGNED}. */
function compounds(firsts: readonly string[], second: string): readonly string[] {
  return firsts.flatMap((first) => ['', '_', '-'].map((separator) => `${first}${separator}${second}`))
}

/** Whether {@link maskSecrets} has anything to look for; no false negatives. */
export const mayHoldSecret: WordFinder = createWordFinder(SECRET_WORDS)

/**
 * The text with every secret in it replaced by `[redacted:<kind>]` (or what `mark` says); what stands around it stays.
 * `onFound` gets each one.
 */
export function maskSecrets(
  text: string,
  onFound: (finding: Finding) => void,
  mark: (finding: Finding) => string = plainMark,
): string {
  if (!mayHoldSecret(text)) return text
  const lower = text.toLowerCase()
  let masked = text
  for (const detector of DETECTORS) {
    const { pattern, anchors } = detector
    const haystack = pattern.ignoreCase ? lower : text
    if (anchors.some((anchor) => haystack.includes(anchor)))
      masked = applyDetector(detector, masked, onFound, mark)
  }
  return masked
}

function plainMark({ kind }: Finding): string {
  return `[redacted:${kind}]`
}

function applyDetector(
  detector: Detector,
  text: string,
  onFound: (finding: Finding) => void,
  mark: (finding: Finding) => string,
): string {
  const { kind, pattern, accept } = detector
  return text.replace(pattern, (match: string, ...rest: unknown[]) => {
    const groups = rest.at(-1)
    const keep =
      typeof groups === 'object' && groups !== null ? String((groups as { keep?: string }).keep ?? '') : ''
    const secret = match.slice(keep.length)
    if (secret.startsWith('[redacted:') || accept?.(secret) === false) return match
    onFound({ kind, secret })
    return `${keep}${mark({ kind, secret })}`
  })
}

/** What stands for a value in code, templates and type declarations: a variable, a call, an index, another name of a secret. */
function isExpression(text: string): boolean {
  return (
    /^(?:\[redacted|[$%<{(]|input\.|data\.)/i.test(text) ||
    /^(?:null|true|false|none|undefined|string)[.?!]?$/i.test(text) ||
    /^(?:process|self|this|os|env|config|settings|req|request)(?:\.[a-z_]\w{0,64}){1,6}$/i.test(text) ||
    // Letters alone: passwords with a bracket in them have digits or other signs too.
    /^(?:[a-z_]{2,64}(?:\.|::)){0,8}[a-z_]{2,64}[([][a-z_.]{0,64}$/i.test(text) ||
    /^(?:[a-z]{1,32}_){1,4}(?:password|passwd|pwd|secret|key|token)$/.test(text)
  )
}

/** A credential after `Bearer` or `Basic`, rather than a word of prose. */
function isCredential(secret: string): boolean {
  return secret.length >= 16 || /[\d=]/.test(secret)
}

/** A text as a pattern that matches only itself. */
export function escapePattern(literal: string): string {
  return literal.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&')
}

/** Names of members, in lower case and without separators, whose value is a secret whatever it looks like. */
const SECRET_KEY = new RegExp(
  `^(?:${[
    '(?:.*)(?:password|passwd|passphrase|passcode|secret|privatekey|apikey|secretkey|accesskey|accesskeyid|signingkey|encryptionkey|sshkey|masterkey|hmackey|credentials?)(?:\\d{1,2}|s|confirm|confirmation|hash)?',
    '(?:.*)(?:access|refresh|id|auth|session|csrf|xsrf|api|bearer|bot|user|oauth|security|deploy|device|github|gitlab|slack|npm|personal|service|identity)token',
    '(?:x|proxy)?(?:auth|authorization)(?:header)?|token|tokenvalue|(?:set)?cookies?2?',
    'pwd|pass|dsn|(?:db|database)?connectionstring|connstr|.*sessionid|sid|jwt|(?:client)?assertion|codeverifier|authcode|authorizationcode|webhookurl',
    '(?:t|h)?otp|otpcode|mfacode|pin|pincode|cvv2?|cvc2?|ssn|socialsecuritynumber|(?:credit)?card(?:number|no)|sastoken|sasurl|keystorepass',
  ].join('|')})$`,
)

/**
 * Whether the value of a member of this name is a secret. For a path, as traces name what they read
 * (`input.arguments.password`, `input.headers["x-api-key"]`), its last part decides. `more`: see {@link toKeySet}.
 */
export function isSecretKey(name: string, more: ReadonlySet<string> = NO_NAMES): boolean {
  if (more.size > 0 || name.length > MAX_KNOWN_NAME) return judgeKey(name, more)
  const known = NAMES.get(name)
  if (known !== undefined) return known
  if (NAMES.size >= MAX_KNOWN_NAMES) NAMES.clear()
  const verdict = judgeKey(name, more)
  NAMES.set(name, verdict)
  return verdict
}

const NO_NAMES: ReadonlySet<string> = new Set()
/** The same names come up in every call; forgetting them is harmless. */
const NAMES = new Map<string, boolean>()
const MAX_KNOWN_NAMES = 4096
const MAX_KNOWN_NAME = 64

function judgeKey(name: string, more: ReadonlySet<string>): boolean {
  const tail = name.length > MAX_KEY ? name.slice(-MAX_KEY) : name
  const last = tail.slice(Math.max(tail.lastIndexOf('.', tail.length - 2), tail.lastIndexOf('[')) + 1)
  // Nearly all names are plain already; the rest takes ten times as long.
  const plain = /^[a-z0-9]*$/.test(last) ? last : plainKey(last)
  return SECRET_KEY.test(plain) || more.has(plain)
}

/** Names from the configuration, in the form in which {@link isSecretKey} compares: letter case and separators do not count. */
export function toKeySet(names: readonly string[]): ReadonlySet<string> {
  return new Set(names.map(plainKey).filter((name) => name !== ''))
}

/** Letters and digits of any script, in lower case. */
function plainKey(name: string): string {
  return name
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]/gu, '')
}

const MAX_KEY = 256
