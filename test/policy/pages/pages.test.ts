import { expect } from 'chai'
import { PolicyBuildError } from '../../../src/policy/build-error.ts'
import type { PolicyError } from '../../../src/policy/compiler.ts'
import { checkPolicies } from '../../../src/policy/lint/check-policies.ts'
import type { OfferedTools } from '../../../src/policy/lint/offered-tools.ts'
import { MESSAGE_KINDS, messageKind } from '../../../src/policy/message.ts'
import type { ExampleFolder } from '../../../src/policy/pages/page.ts'
import { messagePages } from '../../../src/policy/pages/pages.ts'
import { closeFixture, fixtureCompiler } from '../engine-fixture.ts'
import { createFolders } from '../testing/folder.ts'

const OFFERED: OfferedTools = new Map([
  ['github', new Set(['delete_repo', 'create_issue'])],
  ['files', new Set(['read_file', 'refund', 'find_patient', 'search'])],
])

describe('the pages of messages', function () {
  this.timeout(60_000)
  const folders = createFolders('gateway-pages-')
  after(async () => {
    await folders.remove()
    await closeFixture()
  })

  /** Ids of all messages about a folder, each once. */
  async function idsOf(files: ExampleFolder): Promise<readonly string[]> {
    const folder = await folders.make(files)
    const messages = await checkPolicies({
      folder,
      compiler: await fixtureCompiler(),
      cacheDir: null,
      offered: OFFERED,
      upstreams: [...OFFERED.keys()],
    }).then(
      ({ warnings }): readonly PolicyError[] => warnings,
      (error: unknown) => {
        if (!(error instanceof PolicyBuildError)) throw error
        return error.errors
      },
    )
    return [...new Set(messages.map((message) => messageKind(message).id))]
  }

  it('exist for every kind of message, in the order of their ids, each id once', () => {
    const ids = messagePages().map(({ id }) => id)
    expect(ids).to.deep.equal(MESSAGE_KINDS.map(({ id }) => id))
    expect(ids).to.deep.equal([...new Set(ids)].sort())
  })

  it('say what and why in whole sentences', () => {
    for (const { id, page } of messagePages()) {
      for (const text of [page.what, page.why]) expect(text, id).to.match(/^[A-Z].{20,}\.$/s)
    }
  })

  it('have examples, except for what no policy can cause', () => {
    const without = messagePages().filter(({ page }) => page.wrong === null || page.right === null)
    expect(without.map(({ id }) => id)).to.deep.equal(['P100'])
  })

  for (const { id, page } of messagePages()) {
    const { wrong, right } = page
    if (wrong === null || right === null) continue
    it(`${id}: the wrong example gets this message and no other, the right one none`, async () => {
      expect(await idsOf(wrong)).to.deep.equal([id])
      expect(await idsOf(right)).to.deep.equal([])
    })
  }
})
