import { describe, expect, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Random from "../src/Random.ts"

/** The chi-square statistic of counts that should all be equal. */
const chiSquare = (counts: ReadonlyArray<number>): number => {
  const expected = counts.reduce((a, b) => a + b, 0) / counts.length
  return counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
}

/** How many of `numbers` in [0, 1) lie in each of `bins` equal parts. */
const histogram = (numbers: Iterable<number>, bins: number): Array<number> => {
  const counts = Array<number>(bins).fill(0)
  for (const x of numbers) counts[Math.floor(x * bins)]!++
  return counts
}

const times = <A>(n: number, f: (i: number) => A): Array<A> => Array.from({ length: n }, (_, i) => f(i))

const mean = (xs: ReadonlyArray<number>) => xs.reduce((a, b) => a + b, 0) / xs.length

const correlation = (xs: ReadonlyArray<number>, ys: ReadonlyArray<number>): number => {
  const [mx, my] = [mean(xs), mean(ys)]
  const covariance = mean(xs.map((x, i) => (x - mx) * (ys[i]! - my)))
  return covariance / Math.sqrt(mean(xs.map((x) => (x - mx) ** 2)) * mean(ys.map((y) => (y - my) ** 2)))
}

const keys = fc.array(fc.oneof(fc.string({ maxLength: 8 }), fc.integer()), { minLength: 1, maxLength: 4 })

describe("keys", () => {
  it("alone decide the stream", () => {
    fc.assert(
      fc.property(keys, (of) => {
        const [a, b] = [Random.make(...of), Random.make(...of)]
        const other = Random.make("other")
        expect(times(5, () => a.next())).toEqual(
          times(5, () => {
            other.next()
            return b.next()
          })
        )
        expect(Random.uniform(...of)).toBe(Random.make(...of).next())
      })
    )
  })

  it("are not confused: number and text, one and several, order, empty ones", () => {
    const confusable: ReadonlyArray<ReadonlyArray<Random.Key>> = [
      [],
      [""],
      ["", ""],
      ["a", 1],
      ["a1"],
      ["a", "1"],
      [1, "a"],
      ["a", "#1"],
      ["a#1"],
      ["$a", 1],
      [1],
      ["1"],
      [-1],
      ["-1"],
      [1, 1],
      [11],
      [1.1],
      ["ab", "c"],
      ["a", "bc"],
      ["abc"],
      ["é"],
      ["e\u0301"]
    ]
    expect(new Set(confusable.map((of) => Random.hash(...of))).size).toBe(confusable.length)
  })

  it("collide about as rarely as 32 bits must", () => {
    const hashes = new Set(times(200, (i) => times(200, (j) => Random.hash(i, "sample", j))).flat())
    // 40 000 hashes have 0.2 collisions on average.
    expect(hashes.size).toBeGreaterThanOrEqual(40_000 - 3)
  })
})

describe("streams", () => {
  const streams: ReadonlyArray<readonly [string, (i: number) => number]> = [
    [
      "one stream",
      (
        (random) => () =>
          random.next()
      )(Random.make(7, "stream"))
    ],
    ["the first numbers of neighbouring integer keys", (i) => Random.uniform(7, i)],
    ["the first numbers of neighbouring text keys", (i) => Random.uniform(7, `sample-${i}`)],
    ["the first numbers where the neighbour is the first key", (i) => Random.uniform(i, "principle", 0)],
    [
      "the third numbers of neighbouring keys",
      (i) =>
        times(
          3,
          (
            (r) => () =>
              r.next()
          )(Random.make("third", i))
        )[2]!
    ]
  ]

  for (const [name, draw] of streams) {
    it(`are uniform: ${name}`, () => {
      const numbers = times(20_000, draw)
      expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0)
      expect(Math.max(...numbers)).toBeLessThan(1)
      // 99 degrees of freedom: mean 99, standard deviation 14; 0.1 % lie above 149 and 0.1 % below 61.
      const singles = chiSquare(histogram(numbers, 100))
      expect(singles).toBeGreaterThan(61)
      expect(singles).toBeLessThan(149)
      // Neighbours in pairs, on a grid of 10 × 10: they are independent of each other.
      const pairs = times(10_000, (i) => (Math.floor(numbers[2 * i]! * 10) + numbers[2 * i + 1]!) / 10)
      expect(chiSquare(histogram(pairs, 100))).toBeLessThan(149)
      expect(Math.abs(correlation(numbers.slice(1), numbers.slice(0, -1)))).toBeLessThan(4 / Math.sqrt(20_000))
    })
  }

  it("of neighbouring keys are not shifts of each other", () => {
    const heads = times(200, (i) =>
      times(
        20,
        (
          (r) => () =>
            r.next()
        )(Random.make("stream", i))
      )
    )
    expect(new Set(heads.flat()).size).toBe(200 * 20)
  })
})

describe("draws", () => {
  it("int is uniform below its bound, pick over its items", () => {
    const random = Random.make("int")
    const counts = Array<number>(7).fill(0)
    for (let i = 0; i < 14_000; i++) counts[random.int(7)]!++
    // 6 degrees of freedom: 0.1 % lie above 22.5.
    expect(chiSquare(counts)).toBeLessThan(22.5)
    const picks = times(6000, (i) => Random.make("pick", i).pick(["a", "b", "c"]))
    expect(chiSquare(["a", "b", "c"].map((item) => picks.filter((p) => p === item).length))).toBeLessThan(13.8)
    expect(random.int(1)).toBe(0)
  })

  it("chance is true with its probability", () => {
    const random = Random.make("chance")
    const share = mean(times(20_000, () => Number(random.chance(0.3))))
    expect(Math.abs(share - 0.3)).toBeLessThan(4 * Math.sqrt((0.3 * 0.7) / 20_000))
    expect(times(100, () => random.chance(0)).some((x) => x)).toBe(false)
    expect(times(100, () => random.chance(1)).every((x) => x)).toBe(true)
  })

  it("normal has mean 0, variance 1, no skew and normal tails", () => {
    const random = Random.make("normal")
    const n = 50_000
    const draws = times(n, () => random.normal())
    expect(Math.abs(mean(draws))).toBeLessThan(4 / Math.sqrt(n))
    expect(Math.abs(mean(draws.map((x) => x ** 2)) - 1)).toBeLessThan(4 * Math.sqrt(2 / n))
    expect(Math.abs(mean(draws.map((x) => x ** 3)))).toBeLessThan(4 * Math.sqrt(15 / n))
    expect(Math.abs(mean(draws.map((x) => x ** 4)) - 3)).toBeLessThan(4 * Math.sqrt(96 / n))
    expect(Math.abs(correlation(draws.slice(1), draws.slice(0, -1)))).toBeLessThan(4 / Math.sqrt(n))
    const within = mean(draws.map((x) => Number(Math.abs(x) < 1.96)))
    expect(Math.abs(within - 0.95)).toBeLessThan(4 * Math.sqrt((0.95 * 0.05) / n))
  })

  it("shuffle is a permutation and leaves its argument alone", () => {
    fc.assert(
      fc.property(keys, fc.array(fc.integer(), { maxLength: 20 }), (of, items) => {
        const before = items.slice()
        const shuffled = Random.make(...of).shuffle(items)
        expect(items).toEqual(before)
        expect(shuffled).not.toBe(items)
        expect(shuffled.toSorted((a, b) => a - b)).toEqual(before.toSorted((a, b) => a - b))
      })
    )
  })

  it("shuffle gives every order equally often", () => {
    const counts = new Map<string, number>()
    for (let i = 0; i < 12_000; i++) {
      const order = Random.make("shuffle", i).shuffle([1, 2, 3, 4]).join("")
      counts.set(order, (counts.get(order) ?? 0) + 1)
    }
    expect(counts.size).toBe(24)
    // 23 degrees of freedom: 0.1 % lie above 49.7.
    expect(chiSquare([...counts.values()])).toBeLessThan(49.7)
  })
})
