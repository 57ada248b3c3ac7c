/** What needs nobody else: Node, the configuration, the policies. */
import { statSync } from 'node:fs'
import { relative } from 'node:path'
import type { LoadedConfig, LoadOptions } from '../config/load.ts'
import { loadConfig } from '../config/load.ts'
import { ConfigError } from '../config/problems.ts'
import { listSettings } from '../config/show.ts'
import { UsageError } from '../errors.ts'
import { PolicyBuildError } from '../policy/build-error.ts'
import { BundleRefused } from '../policy/bundle-error.ts'
import { PRODUCT_FILE_PREFIX } from '../policy/dictionary.ts'
import { policySourceKind, readPolicies } from '../policy-source.ts'
import type { Finding, Trouble } from './finding.ts'
import { countText, toFinding } from './finding.ts'

/** As in package.json. */
const OLDEST_NODE = [20, 19] as const

/** The version of Node that runs this. */
export function checkNode(version: string = process.versions.node): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const isOldEnough = major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1])
  const needed = OLDEST_NODE.join('.')
  return toFinding({
    check: 'node',
    title: `node ${version}`,
    facts: isOldEnough ? [`>= ${needed}`] : [],
    troubles: isOldEnough
      ? []
      : [{ state: 'fail', text: `older than ${needed}`, fix: 'Install a newer Node: https://nodejs.org' }],
    details: [`${process.platform} ${process.arch}`],
  })
}

/** The configuration; null when it cannot be used. */
export function checkConfig(options: LoadOptions): {
  readonly finding: Finding
  readonly loaded: LoadedConfig | null
} {
  try {
    const loaded = loadConfig(options)
    return { finding: goodConfig(loaded), loaded }
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    return { finding: brokenConfig(error), loaded: null }
  }
}

function goodConfig(loaded: LoadedConfig): Finding {
  const { config, origins } = loaded
  const outside = [...origins].filter(([, origin]) => /^(environment|flag) /.test(origin))
  return toFinding({
    check: 'config',
    title: `config ${shortPath(config.file)}`,
    facts: [countText(origins.size, 'setting'), `${outside.length} from environment`],
    troubles: openSecrets(loaded),
    details: outside.map(([setting, origin]) => `${setting} from ${origin}`),
  })
}

/** As one would type it here. */
function shortPath(path: string): string {
  const here = relative(process.cwd(), path)
  return here.startsWith('..') ? path : `./${here}`
}

/** Certificates are shown to everybody. */
const PUBLIC_FILE = /(^|\.)tls\.(cert|ca)_file$/

/** Files that hold secrets and that everybody on this machine can read. */
function openSecrets(loaded: LoadedConfig): Trouble[] {
  if (process.platform === 'win32') return []
  return listSettings(loaded).flatMap(({ setting, value }) => {
    if (!setting.endsWith('_file') || PUBLIC_FILE.test(setting) || typeof value !== 'string') return []
    const mode = statSync(value, { throwIfNoEntry: false })?.mode ?? 0
    if ((mode & 0o004) === 0) return []
    return [{ state: 'warn', text: `everybody can read ${setting}`, fix: `chmod 600 ${value}` }]
  })
}

function brokenConfig(error: UsageError): Finding {
  const problems = error instanceof ConfigError ? error.problems : []
  const [first] = problems
  const lines = problems.map(({ at, path, message, hint }) =>
    [at, path, hint === null ? message : `${message}. ${hint}`].filter((part) => part !== '').join('  '),
  )
  const text =
    first === undefined ? error.message : `${countText(problems.length, 'problem')}, the first at ${first.at}`
  const noFile = 'Name another with --config; gateway init makes a folder with one'
  const fix = first === undefined ? noFile : 'gateway config check tells them all'
  return toFinding({
    check: 'config',
    title: 'config',
    facts: [],
    troubles: [{ state: 'fail', text, fix }],
    details: lines,
  })
}

/** The policies, built as `gateway serve` builds them. `revision` null when they do not build. */
export async function checkPolicies({ config, origins }: LoadedConfig): Promise<{
  readonly finding: Finding
  readonly revision: string | null
}> {
  if ((await policySourceKind(config)) === 'database') return { finding: published(), revision: null }
  try {
    const { policy } = await readPolicies(config)
    const files = Object.keys(policy.sources).filter((name) => !name.startsWith(PRODUCT_FILE_PREFIX))
    const finding = toFinding({
      check: 'policies',
      title: `policies ${policy.revision}`,
      facts: [countText(files.length, 'file'), `OPA ${policy.opa}`, 'no builtin the host lacks'],
      details: [config.policies, policy.digest, ...files],
    })
    return { finding, revision: policy.revision }
  } catch (error) {
    if (!(error instanceof PolicyBuildError || error instanceof BundleRefused || error instanceof UsageError))
      throw error
    const at = origins.get('policies')
    const finding = toFinding({
      check: 'policies',
      title: `policies ${config.policies}`,
      facts: [],
      troubles: [
        {
          state: 'fail',
          text: error.message,
          fix: `${fixOf(error)}${at === undefined ? '' : ` (policies: ${at})`}`,
        },
      ],
      details: error instanceof PolicyBuildError ? error.format().split('\n') : [],
    })
    return { finding, revision: null }
  }
}

function fixOf(error: Error): string {
  if (error instanceof PolicyBuildError) return 'gateway policy check tells it all'
  return 'Build the bundle again, or correct policies and policy_keys'
}

/** What the database holds is read by whoever serves it; `gateway policy history` lists it. */
function published(): Finding {
  return toFinding({ check: 'policies', title: 'policies', facts: ['published in the database'] })
}
