/**
 * Positive: numbers that a program gives and that have a least value. Another number is a mistake in the program, so it
 * is thrown.
 *
 * @internal
 */

/** A number of things, of which there has to be one at least. */
export const positive = (name: string, n: number): number => {
  if (Number.isSafeInteger(n) && n >= 1) return n
  throw new RangeError(`${name} is ${n}; it is a whole number of 1 or more.`)
}

/** An amount, which need not be whole. */
export const atLeastZero = (name: string, n: number): number => {
  if (n >= 0) return n
  throw new RangeError(`${name} is ${n}; it is a number of 0 or more.`)
}

/** So many at a time, as Effect takes it. */
export const concurrency = (n: number | "unbounded"): number | "unbounded" =>
  n === "unbounded" || n === Infinity ? "unbounded" : positive("concurrency", n)
