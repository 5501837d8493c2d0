/**
 * Saving: when a training's state is worth its writing.
 *
 * A save may take a twentieth of the time since the last one: the state of a small model is saved many times a second,
 * that of a large one every few steps, and no training is slowed down by more than 5 %. When it is saved cannot change
 * what is learnt: a resumed training repeats the steps since then with the same numbers.
 */

/** The share of a training's time that saving may take. */
const share = 0.05

export interface Saving {
  /** Whether a save now keeps to the share. */
  readonly due: () => boolean
  /** Notes that a save has begun, and returns what notes its end. */
  readonly begin: () => () => void
}

/** A clock of milliseconds can be given for tests. */
export const make = (now: () => number = () => performance.now()): Saving => {
  let ended = now()
  let cost = 0
  return {
    due: () => now() - ended >= cost / share,
    begin: () => {
      const started = now()
      return () => {
        ended = now()
        cost = ended - started
      }
    }
  }
}
