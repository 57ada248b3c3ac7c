/**
 * As much of the tasks extension as the SDK's server can do, which makes no tasks: there is none of any id. So a server and
 * the gateway, which knows only tasks it has handed out, answer alike.
 */
import type { McpServer } from '@modelcontextprotocol/server'
import { fromJsonSchema, ProtocolError, ProtocolErrorCode } from '@modelcontextprotocol/server'
import { texts } from './server-tools.ts'

/** Adds them. */
export function addTasks(server: McpServer): void {
  const params = fromJsonSchema<{ taskId: string }>(texts('taskId'))
  for (const method of ['tasks/get', 'tasks/update', 'tasks/cancel']) {
    server.server.setRequestHandler(method, { params }, ({ taskId }) => {
      throw new ProtocolError(ProtocolErrorCode.InvalidParams, `No task has the id ${taskId}`)
    })
  }
}
