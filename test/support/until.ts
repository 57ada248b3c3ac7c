/** Resolves when `check` returns something other than false, null or undefined; rejects after `ms`. */
export async function until<T>(
  what: string,
  check: () => Promise<T | false | null | undefined> | T | false | null | undefined,
  ms = 8000,
): Promise<T> {
  const deadline = performance.now() + ms
  for (;;) {
    const found = await check()
    if (found !== false && found !== null && found !== undefined) return found
    if (performance.now() > deadline) throw new Error(`gave up waiting for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
