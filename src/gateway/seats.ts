/** One attempt's place in the counts of what is in flight. */
export interface Seat {
  /** `release` takes it off another count. */
  hold(release: () => void): void
  /** Takes it off all counts, once. */
  leave(): void
}

/** Counts attempts in flight. */
export interface Seats {
  take(): Seat
  taken(): number
}

export function createSeats(): Seats {
  let taken = 0
  return {
    taken: () => taken,
    take() {
      taken += 1
      const held = [
        () => {
          taken -= 1
        },
      ]
      return {
        hold: (release) => void held.push(release),
        leave: () => {
          for (const release of held.splice(0)) release()
        },
      }
    },
  }
}
