/** `gateway audit ..`: who did what, and why it was allowed or not. */
import { auditErase } from './audit-erase.ts'
import { auditExplain } from './audit-explain.ts'
import { auditExport } from './audit-export.ts'
import { auditPrune } from './audit-prune.ts'
import { auditShow } from './audit-show.ts'
import { auditStats } from './audit-stats.ts'
import { auditTail } from './audit-tail.ts'
import { auditVerify } from './audit-verify.ts'
import type { CommandGroup } from './context.ts'

/** In the order of the help. */
const COMMANDS: readonly CommandGroup[] = [
  auditTail,
  auditShow,
  auditExplain,
  auditStats,
  auditExport,
  auditVerify,
  auditErase,
  auditPrune,
]

/** Adds the commands. */
export const auditCommands: CommandGroup = (parser, streams) =>
  parser.command('audit', 'Read the audit log', (group) =>
    COMMANDS.reduce((built, add) => add(built, streams), group).demandCommand(1, 'Name a command.'),
  )
