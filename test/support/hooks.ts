/** Root hooks of every test run. Costs nothing when no test has asked for a database or a schema. */
import { stopSharedServer } from './postgres.ts'
import { closeSharedSchemas } from './schemas.ts'

// Commands print as anywhere else, also where the tests themselves run in GitHub Actions.
delete process.env['GITHUB_ACTIONS']

export const mochaHooks = {
  async afterAll(): Promise<void> {
    closeSharedSchemas()
    await stopSharedServer()
  },
}
