/**
 * Positive: numbers of things that a stage is given, of which there has to be one at least.
 *
 * @internal
 */

/** The number; throws where it is none, which is a mistake in the program that makes the stage. */
export const positive = (name: string, n: number): number => {
  if (Number.isSafeInteger(n) && n >= 1) return n
  throw new RangeError(`${name} is ${n}; it is a whole number of 1 or more.`)
}
