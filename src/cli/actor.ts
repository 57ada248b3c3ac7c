import { hostname, userInfo } from 'node:os'

/** Who does it, as far as this machine knows. The database keeps its own role beside it. */
export function actor(): string {
  try {
    return `${userInfo().username}@${hostname()}`
  } catch {
    // A container may run as a number that has no name.
    return `uid ${process.getuid?.() ?? 'unknown'}@${hostname()}`
  }
}
