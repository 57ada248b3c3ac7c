/** `gateway policy verify`. */
import type { Argv } from 'yargs'
import { UsageError } from '../errors.ts'
import type { PolicyBundle } from '../policy/bundle.ts'
import type { CommandArgs } from './context.ts'
import type { Streams } from './output.ts'
import { createOutput } from './output.ts'
import {
  configuredKeys,
  isBundleFile,
  openBundle,
  readVerificationKeys,
  toBundleDocument,
} from './policy-bundle.ts'
import { escapeText } from './text.ts'

/** Options of the command. */
export interface VerifyArgs extends CommandArgs {
  readonly bundle: string
  readonly key: readonly string[]
}

const SIGNATURES = {
  verified: 'signature verified',
  unchecked: 'signed, but no key to check it with',
  none: 'not signed',
} as const satisfies Record<PolicyBundle['signature'], string>

/** Describes the command line. */
export function verifyOptions(command: Argv<CommandArgs>): Argv<VerifyArgs> {
  return command
    .positional('bundle', { type: 'string', demandOption: true, describe: 'The bundle' })
    .option('key', {
      type: 'string',
      array: true,
      default: [],
      requiresArg: true,
      describe: 'PEM file with a public key (default: policy_keys of the configuration)',
    })
    .example('$0 policy verify bundle.tar.gz', 'With the configured keys')
    .example('$0 policy verify bundle.tar.gz --key release.pub.pem', 'With another one')
}

/** Checks a bundle as a gateway does before it serves it; exit code 1 when it is refused. */
export async function verify(args: VerifyArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  if (!isBundleFile(args.bundle)) throw new UsageError('usage', `${args.bundle} is a folder, not a bundle.`)
  const bundle = await openBundle(args.bundle, readVerificationKeys(args.key) ?? configuredKeys(args))
  if (out.isJson) {
    out.json(toBundleDocument(bundle))
    return
  }
  const { revision, sequence, opa, files } = bundle.manifest
  const facts = [
    `${Object.keys(files).length} files`,
    sequence === 0 ? 'no sequence' : `sequence ${sequence}`,
    SIGNATURES[bundle.signature],
    `OPA ${opa}`,
  ]
  out.line(`${out.style('good', 'ok')}  ${escapeText(args.bundle)}  ${revision}  ${facts.join(', ')}`)
}
