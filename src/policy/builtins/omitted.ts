/** Builtins of OPA that policies may not call here, each with the reason and what to do instead. */

/** Why a builtin is not available, and the way out. Both are whole phrases for a build error. */
export interface OmittedBuiltin {
  readonly reason: string
  readonly alternative: string
}

const NOT_REPRODUCIBLE =
  'a decision must be a pure function of its input and the bundle, so that it can be replayed'
const NO_NETWORK = 'policies have no network: a decision may not wait for, or depend on, another service'

/** What Go's crypto/x509 takes for a certificate, and every member it makes of one, is that package's own. */
const X509: OmittedBuiltin = {
  reason:
    "the result is the certificate as Go's own parser sees it, which no other parser reproduces exactly",
  alternative: 'let the proxy in front read the certificate, and use the claims of input.principal',
}

const PRIVATE_KEYS: OmittedBuiltin = {
  reason: 'it reads private keys, and what a policy reads and gives is recorded with the decision',
  alternative: 'issue tokens where callers authenticate; policies can check them with io.jwt.decode_verify',
}

/** OPA name -> why it is missing. Together with the host's and Wasm's own builtins, this is all of OPA. */
export const OMITTED_BUILTINS: ReadonlyMap<string, OmittedBuiltin> = new Map([
  ['crypto.parse_private_keys', PRIVATE_KEYS],
  [
    'crypto.x509.parse_and_verify_certificates',
    {
      reason: `it compares a chain with the clock of the machine: ${NOT_REPRODUCIBLE}`,
      alternative: 'let the proxy in front verify the certificate, and use the claims of input.principal',
    },
  ],
  ['crypto.x509.parse_and_verify_certificates_with_options', X509],
  ['crypto.x509.parse_certificate_request', X509],
  ['crypto.x509.parse_certificates', X509],
  ['crypto.x509.parse_keypair', PRIVATE_KEYS],
  ['crypto.x509.parse_rsa_private_key', PRIVATE_KEYS],
  [
    'http.send',
    {
      reason: NO_NETWORK,
      alternative:
        'put the data into the policy folder (data.json, data.yaml), or into the claims of the key',
    },
  ],
  [
    'net.lookup_ip_addr',
    { reason: NO_NETWORK, alternative: 'compare addresses with net.cidr_contains, or names as text' },
  ],
  [
    'opa.runtime',
    {
      reason: `environment and configuration of the process are not visible to policies: ${NOT_REPRODUCIBLE}`,
      alternative: 'put settings into data.json or data.yaml of the policy folder',
    },
  ],
  [
    'providers.aws.sign_req',
    {
      reason: 'a signed request is of use to http.send alone, which policies do not have',
      alternative: 'let the upstream that is called sign its own requests',
    },
  ],
  [
    'rand.intn',
    {
      reason: `randomness is not available: ${NOT_REPRODUCIBLE}`,
      alternative: 'derive a number from the request, for example from crypto.sha256(input.request.id)',
    },
  ],
  [
    'rego.parse_module',
    {
      reason: "the result is the syntax tree of OPA's parser, which is not part of the serving process",
      alternative: 'check policies with "gateway policy check"',
    },
  ],
  [
    'strings.render_template',
    {
      reason: "the template language of Go calls functions and prints values by Go's rules for its own types",
      alternative: 'use sprintf, or string interpolation: $"{input.target.name} is not allowed"',
    },
  ],
  [
    'trace',
    {
      reason: 'it does nothing in Wasm, and every evaluation is traced anyway',
      alternative: 'remove it and read the trace with "gateway audit explain"',
    },
  ],
  [
    'uuid.rfc4122',
    {
      reason: `randomness is not available: ${NOT_REPRODUCIBLE}`,
      alternative: 'use input.request.id, which is unique for every request',
    },
  ],
])

/** Names that the compiler resolves itself or erases, so that no evaluation ever calls them. */
export const COMPILED_AWAY_BUILTINS: ReadonlySet<string> = new Set([
  'assign',
  'eq',
  'internal.print',
  'internal.test_case',
  'print',
  'rego.metadata.chain',
  'rego.metadata.rule',
])
