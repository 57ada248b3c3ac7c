/** Root hooks of every test run. Costs nothing when no test has asked for a database. */
import { stopSharedServer } from './postgres.ts'

export const mochaHooks = {
  async afterAll(): Promise<void> {
    await stopSharedServer()
  },
}
