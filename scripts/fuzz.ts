/**
 * `npm run fuzz -- [SEEDS] [FIRST]`: answers random policies three ways (see test/policy/fidelity/) and prints every difference
 * without a known cause, with the policy and its input. 1 = there was one.
 */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createCompiler } from '../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../src/policy/compiler-artifact.ts'
import { fuzz } from '../test/policy/fidelity/fuzz.ts'
import { randomQuestion } from '../test/policy/fidelity/random-policy.ts'

const [count = '500', first = '1'] = process.argv.slice(2)
const artifact = await loadCompilerArtifact(join(tmpdir(), 'mcp-policy-gateway-fidelity'))
const compiler = createCompiler({ artifact })
const { refused, same, known, faults } = await fuzz(Number(first), Number(count), compiler)
await compiler.close()
for (const { seed, text } of faults) {
  const { sources, dataText, inputText } = randomQuestion(seed)
  console.log(
    `seed ${seed}: ${text}\ninput ${inputText}\ndata ${dataText}\n${Object.values(sources).join('\n')}`,
  )
}
console.log(
  `${count} policies: ${same} the same, ${known} differ for a known cause, ${refused} refused, ${faults.length} faults`,
)
process.exitCode = faults.length > 0 ? 1 : 0
