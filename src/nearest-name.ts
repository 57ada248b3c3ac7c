/** What a mistyped name was probably meant to be. A foundation every room may use. */

/** The candidate nearest to a mistyped name, or null when none is near enough to be meant. */
export function nearestName(name: string, candidates: readonly string[]): string | null {
  const wanted = normalise(name)
  let best: { name: string; distance: number } | null = null
  for (const candidate of candidates) {
    const distance = editDistance(wanted, normalise(candidate))
    if (best === null || distance < best.distance) best = { name: candidate, distance }
  }
  if (best === null || best.distance > Math.max(1, Math.floor(Math.min(wanted.length, 24) / 3))) return null
  return best.name
}

function normalise(name: string): string {
  return name.slice(0, 64).toLowerCase().replaceAll('-', '_')
}

/** Number of edits (insert, delete, replace, swap of neighbours) between two short texts. */
export function editDistance(left: string, right: string): number {
  let before: readonly number[] = []
  let previous: readonly number[] = Array.from({ length: right.length + 1 }, (_, at) => at)
  for (let row = 1; row <= left.length; row += 1) {
    const current = [row]
    for (let column = 1; column <= right.length; column += 1) {
      const isSame = left[row - 1] === right[column - 1]
      const isSwapped = left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1]
      current.push(
        Math.min(
          at(previous, column) + 1,
          at(current, column - 1) + 1,
          at(previous, column - 1) + (isSame ? 0 : 1),
          isSwapped ? at(before, column - 2) + 1 : Number.POSITIVE_INFINITY,
        ),
      )
    }
    before = previous
    previous = current
  }
  return at(previous, right.length)
}

/** Outside the table there is nothing to build on. */
function at(row: readonly number[], column: number): number {
  return row[column] ?? Number.POSITIVE_INFINITY
}
