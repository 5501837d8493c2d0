/**
 * Seen: on which line a key was met first, in twelve bytes a key, so that millions of prompts are told apart without
 * keeping them.
 *
 * Keys are told apart by 64 bits of their SHA-256: of ten million keys two are mistaken for one another with a
 * probability of 3e-6.
 *
 * @internal
 */
import { hash } from "node:crypto"

export interface Seen {
  /** The line at which the key was met before; undefined, and noted, where it was not. */
  readonly meet: (key: string, line: number) => number | undefined
}

/** An open-addressed table with linear probing; a line of 0 is an empty place. */
const table = (slots: number) => ({
  slots,
  low: new Uint32Array(slots),
  high: new Uint32Array(slots),
  lines: new Uint32Array(slots)
})

/** None yet. Lines are from 1 and below 2^32. */
export const make = (): Seen => {
  let now = table(1024)
  let count = 0

  /** The place of a key, or the empty one where it belongs. */
  const place = (low: number, high: number): number => {
    let at = low % now.slots
    while (now.lines[at] !== 0 && (now.low[at] !== low || now.high[at] !== high)) at = (at + 1) % now.slots
    return at
  }

  const put = (low: number, high: number, line: number) => {
    const at = place(low, high)
    now.low[at] = low
    now.high[at] = high
    now.lines[at] = line
  }

  const grow = () => {
    const before = now
    now = table(2 * before.slots)
    for (let i = 0; i < before.slots; i++) {
      if (before.lines[i] !== 0) put(before.low[i]!, before.high[i]!, before.lines[i]!)
    }
  }

  return {
    meet: (key, line) => {
      // As text: a buffer for each key would be memory outside of the heap, which is given back late.
      const digest = hash("sha256", key)
      const low = Number.parseInt(digest.slice(0, 8), 16)
      const high = Number.parseInt(digest.slice(8, 16), 16)
      const found = now.lines[place(low, high)]
      if (found !== undefined && found !== 0) return found
      if (++count > 0.7 * now.slots) grow()
      put(low, high, line)
      return undefined
    }
  }
}
