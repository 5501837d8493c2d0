/**
 * Random numbers as pure functions of their keys.
 *
 * Every random choice in Charter comes from (seed, what it is for, sample id, step): a generator is made where it is
 * needed from those keys and never shared, so the order in which work happens cannot change a result.
 *
 * The generator is splitmix32 seeded by a 32-bit FNV-1a hash with a murmur3 finaliser over the keys.
 */

/** What a random choice may depend on. */
export type Key = string | number

/** A stream of uniform numbers that is a function of its keys alone. */
export interface Random {
  /** A uniform number in [0, 1). */
  readonly next: () => number
  /** A uniform integer in [0, n). */
  readonly int: (n: number) => number
  /** A standard normal number (Box-Muller). */
  readonly normal: () => number
  /** A uniformly drawn element. The array must not be empty. */
  readonly pick: <A>(items: ReadonlyArray<A>) => A
  /** True with probability `p`. */
  readonly chance: (p: number) => boolean
  /** A shuffled copy (Fisher-Yates). */
  readonly shuffle: <A>(items: ReadonlyArray<A>) => Array<A>
}

const mix = (h: number): number => {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** A 32-bit hash of the keys; `["a", 1]`, `["a1"]` and `["a", "1"]` differ. */
export const hash = (...keys: ReadonlyArray<Key>): number => {
  let h = 0x811c9dc5
  for (const key of keys) {
    const text = typeof key === "number" ? `#${key}` : `$${key}`
    for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
    h = mix(h ^ text.length)
  }
  return h >>> 0
}

/**
 * A generator for the given keys.
 *
 * @example
 * const principle = Random.make(seed, "principle", sample.id, round).pick(principles)
 */
export const make = (...keys: ReadonlyArray<Key>): Random => {
  let state = hash(...keys)
  // Two words of state would be needed for very long streams; streams here are short (one choice, one document).
  const word = (): number => {
    state = (state + 0x9e3779b9) | 0
    let z = state
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }
  const next = () => ((word() >>> 5) * 67108864 + (word() >>> 6)) / 9007199254740992
  const int = (n: number) => Math.floor(next() * n)
  return {
    next,
    int,
    normal: () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()),
    pick: (items) => items[int(items.length)]!,
    chance: (p) => next() < p,
    shuffle: (items) => {
      const out = items.slice()
      for (let i = out.length - 1; i > 0; i--) {
        const j = int(i + 1)
        ;[out[i], out[j]] = [out[j]!, out[i]!]
      }
      return out
    }
  }
}

/** A uniform number in [0, 1) for one choice. */
export const uniform = (...keys: ReadonlyArray<Key>): number => make(...keys).next()
