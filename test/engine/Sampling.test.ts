import { describe, expect, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Sampling from "../../src/engine/Sampling.ts"
import * as Random from "../../src/Random.ts"

/** What the filters leave of a distribution, written down as they are defined. */
const reference = (logits: ReadonlyArray<number>, options: Sampling.Options, seen: ReadonlyArray<number>) => {
  const { logitBias = new Map(), minP = 0, repetitionPenalty = 1, temperature, topK = Infinity, topP = 1 } = options
  const x = logits.map((logit, id) => {
    const biased = logit + (logitBias.get(id) ?? 0)
    return !seen.includes(id) ? biased : biased > 0 ? biased / repetitionPenalty : biased * repetitionPenalty
  })
  const order = x.map((_, id) => id).sort((a, b) => x[b]! - x[a]! || a - b)
  if (temperature === 0) return new Map([[order[0]!, 1]])
  const normalise = (ids: ReadonlyArray<number>) => {
    const weights = ids.map((id) => Math.exp((x[id]! - x[order[0]!]!) / temperature))
    const total = weights.reduce((a, b) => a + b, 0)
    return new Map(ids.map((id, i) => [id, weights[i]! / total]))
  }
  let left = normalise(order.slice(0, topK))
  let sum = 0
  const nucleus: Array<number> = []
  for (const [id, p] of left) {
    if (topP < 1 && sum >= topP) break
    nucleus.push(id)
    sum += p
  }
  left = normalise(nucleus)
  const most = Math.max(...left.values())
  return normalise([...left].filter(([, p]) => p >= minP * most).map(([id]) => id))
}

const logits = fc.array(fc.integer({ min: -60, max: 60 }), { minLength: 2, maxLength: 40 })

const filters = fc.record(
  {
    temperature: fc.constantFrom(0, 0.3, 0.7, 1, 1.7),
    topK: fc.integer({ min: 1, max: 50 }),
    topP: fc.double({ min: 0.05, max: 1, noNaN: true }),
    minP: fc.double({ min: 0, max: 1, noNaN: true }),
    repetitionPenalty: fc.constantFrom(1, 2, 0.5),
    logitBias: fc.constantFrom(new Map<number, number>(), new Map([[0, 2.5]]), new Map([[1, -50]]))
  },
  { requiredKeys: ["temperature"] }
)

describe("sampling", () => {
  it("draws what a distribution written down as it is defined would give, with its log-probability", () => {
    fc.assert(
      fc.property(logits, filters, fc.double({ min: 0, max: 0.999, noNaN: true }), (eighths, options, uniform) => {
        const x = Float32Array.from(eighths, (n) => n / 8)
        const seen = [0, 1]
        const expected = reference(Array.from(x), options, seen)
        // Where a filter ends within rounding of a token, what is kept is a matter of rounding.
        const blurred = { topP: 1e-9, minP: 1e-9 }
        for (const [name, by] of Object.entries(blurred) as Array<[keyof typeof blurred, number]>) {
          const value = options[name]
          if (value === undefined) continue
          const others = [value - by, value + by].map((v) => reference(Array.from(x), { ...options, [name]: v }, seen))
          fc.pre(others.every((other) => other.size === expected.size))
        }
        const { logprob, samplingLogprob, token } = Sampling.draw(x, options, uniform, seen)
        expect(expected.has(token)).toBe(true)
        expect(samplingLogprob).toBeCloseTo(Math.log(expected.get(token)!), 5)
        const model = reference(Array.from(x), { temperature: 1 }, [])
        expect(logprob).toBeCloseTo(Math.log(model.get(token)!), 5)
        let below = 0
        for (const [id, p] of [...expected].sort(([a], [b]) => a - b)) {
          if (id >= token) break
          below += p
        }
        expect(below).toBeLessThanOrEqual(uniform + 1e-6)
        expect(below + expected.get(token)!).toBeGreaterThanOrEqual(uniform - 1e-6)
      }),
      { seed: 7, numRuns: 2000 }
    )
  })

  it("keeps of a large vocabulary what it keeps of a small one, flat or steep, also where many are equally likely", () => {
    for (let i = 0; i < 60; i++) {
      const random = Random.make(3, i)
      const scale = [0.01, 0.5, 3, 12][i % 4]!
      const steps = i % 3 === 0 ? 4 : 1e6
      const x = Float32Array.from({ length: 3000 }, () => Math.round(scale * random.normal() * steps) / steps)
      x[7] = Number.NEGATIVE_INFINITY
      const options = {
        temperature: [0.6, 1, 1.4][i % 3]!,
        ...(i % 5 === 0 ? { topK: 1 + random.int(2999) } : {}),
        topP: 0.02 + 0.97 * Random.uniform(3, "p", i),
        ...(i % 7 === 0 ? { minP: 0.001 } : {})
      }
      const expected = reference(Array.from(x), options, [])
      const least = Math.min(...expected.values())
      const kept = new Set<number>()
      for (let u = 0; u < 400; u++) {
        const { samplingLogprob, token } = Sampling.draw(x, options, (u + 0.5) / 400)
        // The last token may be one more or less where the sums end within rounding of it.
        if (!expected.has(token)) expect(Math.exp(samplingLogprob)).toBeLessThan(least + 1e-9)
        kept.add(token)
      }
      if (expected.size <= 40 && least > 0.005) expect(kept).toEqual(new Set(expected.keys()))
      const drawn = Sampling.draw(x, options, 0.3)
      expect(drawn.samplingLogprob).toBeCloseTo(Math.log(expected.get(drawn.token)!), 5)
    }
  })

  it("draws the same where it is told the sums of all tokens", () => {
    const x = Float32Array.from({ length: 500 }, (_, i) => 2 * Random.make(4, i).normal())
    const sum = (temperature: number) => Math.log(x.reduce((all, logit) => all + Math.exp(logit / temperature), 0))
    for (const temperature of [0.7, 1, 1.3]) {
      const options = { temperature, topP: 0.9 }
      const known = { normalizer: sum(1), tempered: sum(temperature) }
      for (let i = 0; i < 50; i++) {
        const alone = Sampling.draw(x, options, i / 50)
        const told = Sampling.draw(x, options, i / 50, [], known)
        expect(told.token).toBe(alone.token)
        expect(told.samplingLogprob).toBeCloseTo(alone.samplingLogprob, 9)
      }
      // They say nothing about logits that are changed.
      const biased = { ...options, logitBias: new Map([[3, 5]]) }
      expect(Sampling.draw(x, biased, 0.4, [], known)).toEqual(
        Sampling.draw(x, biased, 0.4, [], { normalizer: sum(1) })
      )
    }
  })

  it("draws the same with filters that keep everything as without them", () => {
    const x = Float32Array.from({ length: 300 }, (_, i) => 3 * Random.make(1, i).normal())
    for (let i = 0; i < 200; i++) {
      const uniform = Random.uniform(2, i)
      const plain = Sampling.draw(x, { temperature: 0.8 }, uniform)
      const open = { temperature: 0.8, topK: 300, topP: 1, minP: 0, repetitionPenalty: 1, logitBias: new Map() }
      expect(Sampling.draw(x, open, uniform)).toEqual(plain)
      // The whole distribution as a nucleus of its own.
      expect(Sampling.draw(x, { temperature: 0.8, topP: 1 - 1e-12 }, uniform).token).toBe(plain.token)
    }
  })

  it("takes equally likely tokens in the order of their ids", () => {
    const flat = new Float32Array(10)
    const drawn = (options: Partial<Sampling.Options>) =>
      new Set(
        Array.from(
          { length: 200 },
          (_, i) => Sampling.draw(flat, { temperature: 1, ...options }, Random.uniform(i)).token
        )
      )
    expect(Sampling.draw(flat, { temperature: 0 }, 0.9).token).toBe(0)
    expect(drawn({ topK: 3 })).toEqual(new Set([0, 1, 2]))
    expect(drawn({ topP: 0.45 })).toEqual(new Set([0, 1, 2, 3, 4]))
    expect(drawn({ minP: 1 }).size).toBe(10)
  })

  it("bans a token by a bias of minus infinity and forces one by a large bias", () => {
    const x = Float32Array.from([5, 1, 0])
    const ban = { temperature: 1, logitBias: new Map([[0, Number.NEGATIVE_INFINITY]]) }
    for (let i = 0; i < 100; i++) expect(Sampling.draw(x, ban, Random.uniform(i)).token).not.toBe(0)
    expect(Sampling.draw(x, { temperature: 0, logitBias: new Map([[2, 100]]) }, 0).token).toBe(2)
  })

  it("takes a bias or a penalty beyond the range of floats for a certain token", () => {
    const x = Float32Array.from([5, 1, 0])
    for (const temperature of [0, 1e-3, 1, 1e3]) {
      for (const options of [{ logitBias: new Map([[2, 1e39]]) }, { repetitionPenalty: 1e-45 }]) {
        const { samplingLogprob, token } = Sampling.draw(x, { temperature, ...options }, 0.9, [1])
        expect([token, samplingLogprob]).toEqual(["logitBias" in options ? 2 : 1, 0])
      }
      // What is ruled out stays so, whatever the penalty makes of it.
      const banned = { temperature, repetitionPenalty: 1e30, logitBias: new Map([[0, Number.NEGATIVE_INFINITY]]) }
      expect(Sampling.draw(x, banned, 0, [0, 1, 2]).token).not.toBe(0)
    }
    // Nor does a penalty rule out what is unlikely: then there might be nothing left.
    const unlikely = Sampling.draw(
      Float32Array.from([-5, -1]),
      { temperature: 1, repetitionPenalty: 1e39 },
      0.9,
      [0, 1]
    )
    expect([unlikely.token, unlikely.samplingLogprob]).toEqual([1, Math.log(0.5)])
    const all = new Map(Array.from(x, (_, id) => [id, -1e39]))
    expect(Sampling.problem({ temperature: 1, logitBias: all }, 3)).toContain("leaves no token")
  })

  it("is greedy where a temperature is too small to divide by", () => {
    const x = Float32Array.of(1, 1.001, 0)
    const { logprob, samplingLogprob, token } = Sampling.draw(x, { temperature: 1e-7 }, 0)
    expect([token, samplingLogprob]).toEqual([1, 0])
    expect(logprob).toBeCloseTo(1.001 - Math.log(Math.E + Math.exp(1.001) + 1), 6)
    expect([1e-6, 9e-7].map((temperature) => Sampling.isGreedy({ temperature }))).toEqual([false, true])
  })

  it("is left to the graph where nothing but a temperature changes the logits or rules tokens out", () => {
    const isPlain = (options: Partial<Sampling.Options>) => Sampling.isPlain({ temperature: 0.8, ...options })
    const nothing = { topP: 1, minP: 0, repetitionPenalty: 1, logitBias: new Map<number, number>() }
    expect([isPlain({}), isPlain(nothing)]).toEqual([true, true])
    const filters = [{ topK: 5 }, { topP: 0.99 }, { minP: 0.01 }]
    expect(filters.map((filter) => isPlain(filter))).toEqual([false, false, false])
    // No filter rules out the likeliest token, but a change of the logits may make another one the likeliest.
    expect(filters.map((filter) => isPlain({ ...filter, temperature: 0 }))).toEqual([true, true, true])
    const changes = [{ repetitionPenalty: 1.1 }, { logitBias: new Map([[0, 1]]) }]
    expect(changes.map((change) => isPlain({ ...change, temperature: 0 }))).toEqual([false, false])
  })

  it("says what is wrong with options", () => {
    const wrong: ReadonlyArray<readonly [string, Partial<Sampling.Options>]> = [
      ["temperature", { temperature: -1 }],
      ["temperature", { temperature: Number.NaN }],
      ["temperature", { temperature: Infinity }],
      ["top_k", { topK: 0 }],
      ["top_k", { topK: 1.5 }],
      ["top_p", { topP: 0 }],
      ["top_p", { topP: 1.1 }],
      ["top_p", { topP: Number.NaN }],
      ["min_p", { minP: 2 }],
      ["min_p", { minP: -0.1 }],
      ["repetition_penalty", { repetitionPenalty: 0 }],
      ["repetition_penalty", { repetitionPenalty: Infinity }],
      ["logit_bias", { logitBias: new Map([[10, 1]]) }],
      ["logit_bias", { logitBias: new Map([[-1, 1]]) }],
      ["logit_bias", { logitBias: new Map([[0.5, 1]]) }],
      ["logit_bias", { logitBias: new Map([[1, Number.NaN]]) }],
      ["logit_bias", { logitBias: new Map([[1, Infinity]]) }]
    ]
    for (const [word, options] of wrong) {
      expect(Sampling.problem({ temperature: 1, ...options }, 10)).toContain(word)
    }
    expect(
      Sampling.problem({ temperature: 0, topK: 1, topP: 1, minP: 0, logitBias: new Map([[9, 1]]) }, 10)
    ).toBeUndefined()
  })
})

describe("20,000 draws from a known distribution pass a chi-square test", () => {
  // p(i) falls geometrically over 12 tokens: 0.3 · 0.7^i, renormalised.
  const x = Float32Array.from({ length: 12 }, (_, i) => i * Math.log(0.7))
  const cases: ReadonlyArray<readonly [string, Sampling.Options]> = [
    ["temperature 1", { temperature: 1 }],
    ["temperature 0.7", { temperature: 0.7 }],
    ["temperature 1.5", { temperature: 1.5 }],
    ["top-k", { temperature: 1, topK: 5 }],
    ["top-p", { temperature: 1, topP: 0.8 }],
    ["min-p", { temperature: 1, minP: 0.1 }],
    ["all of them", { temperature: 1.3, topK: 9, topP: 0.9, minP: 0.2 }]
  ]
  it.each(cases)("%s", (name, options) => {
    const draws = 20_000
    const expected = reference(Array.from(x), options, [])
    const counts = new Map<number, number>()
    for (let i = 0; i < draws; i++) {
      const { token } = Sampling.draw(x, options, Random.uniform(11, "chi-square", name, i))
      counts.set(token, (counts.get(token) ?? 0) + 1)
    }
    expect([...counts.keys()].every((id) => expected.has(id))).toBe(true)
    const statistic = [...expected].reduce(
      (sum, [id, p]) => sum + ((counts.get(id) ?? 0) - draws * p) ** 2 / (draws * p),
      0
    )
    // Mean k and variance 2k for k degrees of freedom: four deviations. The seed is fixed, so this cannot flake.
    const freedom = expected.size - 1
    expect(statistic).toBeLessThan(freedom + 4 * Math.sqrt(2 * freedom))
  })
})
