/**
 * Preloaded (`--import`) into the children of `npm start`: ends them when their parent has gone, also when it was killed
 * and could tell nobody. The parent holds the other end of the IPC channel.
 */

/** How long the program may take to stop by itself. */
const PATIENCE_MS = 15_000

if (process.channel !== undefined) {
  process.once('disconnect', () => {
    process.kill(process.pid, 'SIGTERM')
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), PATIENCE_MS).unref()
  })
  // The channel is a leash, not work: it must not keep the program running.
  process.channel.unref()
}
