import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Latch } from "effect"
import { fileURLToPath } from "node:url"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Decoder from "../../src/engine/Decoder.ts"
import * as KvCache from "../../src/engine/KvCache.ts"
import * as Sampling from "../../src/engine/Sampling.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Random from "../../src/Random.ts"
import * as Golden from "./golden.ts"

const request = (id: string, ids: ReadonlyArray<number>, more: Partial<Decoder.Request> = {}): Decoder.Request => ({
  id,
  ids,
  adapter: undefined,
  seed: 7,
  maxTokens: 12,
  temperature: 1,
  stopIds: new Set([1]),
  ...more
})

/** Prompts of many lengths. */
const prompts = Array.from({ length: 20 }, (_, i) =>
  request(
    `prompt ${i}`,
    Array.from({ length: 2 + ((i * 7) % 11) }, (_, t) => 3 + ((i * 31 + t * 17) % 300))
  )
)

const sandbox = fileURLToPath(new URL("../../assets/sandbox", import.meta.url))

/** An adapter of random factors. */
const adapterOf = Effect.fnUntraced(function* (checkpoint: Checkpoint.Checkpoint, seed: number, rank = 4) {
  const targets = Lora.allTargets(checkpoint.config)
  const fresh = yield* Effect.fromResult(Lora.init(checkpoint.config, { rank, alpha: 2 * rank, targets }, seed))
  const adapter = Adapters.fromLora(fresh, checkpoint.config)
  adapter.vector.set(adapter.vector.map((x, i) => (x === 0 ? 0.1 * Random.make(seed, i).normal() : x)))
  return adapter
})

describe("the decoder", () => {
  it.live("continues greedily with the tokens that transformers gives", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const expected = yield* golden.integers("greedy")
      const decoder = yield* Decoder.make(golden.checkpoint, { memory: 1e8, maxRows: 4 })
      for (const length of [1, 4, 24]) {
        const ids = expected.slice(0, length)
        const { tokenIds } = yield* decoder.generate(
          request("greedy", ids, { temperature: 0, maxTokens: expected.length - length, stopIds: new Set() })
        )
        // The golden continuation starts from the first row's prompt; its own tokens lead to the same ones.
        if (length >= golden.rows[0]!.length) expect(tokenIds).toEqual(expected.slice(length))
      }
    })
  )

  it.live("reads prompts up to the last position of a model with few of them", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const short = { ...checkpoint, config: { ...checkpoint.config, maxPositions: 50 } }
      const ids = Array.from({ length: 49 }, (_, t) => 3 + (t % 90))
      const one = request("long", ids, { temperature: 0, maxTokens: 1 })
      const options = { memory: 1e8, maxRows: 4 }
      const { tokenIds } = yield* (yield* Decoder.make(short, options)).generate(one)
      expect(tokenIds).toEqual((yield* (yield* Decoder.make(checkpoint, options)).generate(one)).tokenIds)
    })
  )

  it.live("ends in the middle of a burst where it would without, and at the last position of a model", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const short = { ...checkpoint, config: { ...checkpoint.config, maxPositions: 80 } }
      const free = { stopIds: new Set<number>() }
      const ticks: Array<number> = []
      const requests = [
        request("length", [5, 6, 7], { ...free, maxTokens: 3 }),
        request("stop", [5, 6, 7], { maxTokens: 30, stopIds: new Set(Array.from({ length: 60 }, (_, i) => 5 * i)) }),
        request("text", [5, 6, 8], { ...free, maxTokens: 30, stop: (ids) => ids.length === 11 }),
        request("last", prompts[3]!.ids, { ...free, maxTokens: 80 - prompts[3]!.ids.length }),
        request(
          "long",
          Array.from({ length: 75 }, (_, t) => 3 + t),
          { ...free, maxTokens: 5, temperature: 0 }
        ),
        // Is looked at between two tokens, and so are those beside it.
        request("bias", [9, 9], { ...free, maxTokens: 9, logitBias: new Map([[4, 2]]), temperature: 0 }),
        request("asked", [5, 6, 9], { ...free, maxTokens: 8, stop: (ids) => ticks.push(ids.length) < 0 })
      ]
      const answers = (burst: number) => Golden.answers(short, { memory: 1e8, maxRows: 3, burst }, requests)
      const apart = yield* answers(1)
      expect(apart.map(({ tokenIds }) => tokenIds.length)).toEqual([3, 3, 11, 68, 5, 9, 8])
      expect(apart[1]!.finish).toBe("stop")
      for (const burst of [2, 5, 64]) {
        ticks.length = 0
        for (const [i, answer] of (yield* answers(burst)).entries()) {
          expect(answer.tokenIds, requests[i]!.id).toEqual(apart[i]!.tokenIds)
          expect(answer.finish).toBe(apart[i]!.finish)
          expect(Golden.distance(answer.logprobs, apart[i]!.logprobs)).toBeLessThan(1e-4)
        }
        expect(ticks).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
      }
    })
  )

  it.live("writes no more than a row is to hold, however long the burst is", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const memory = KvCache.bytes(checkpoint.config, 2, 64)
      const full = [50, 10].map((length) =>
        request(`${length}`, Array(length).fill(5), { maxTokens: 64 - length, stopIds: new Set(), temperature: 0 })
      )
      const answers = (burst: number) => Golden.answers(checkpoint, { memory, maxRows: 2, burst }, full)
      const [apart, together] = [yield* answers(1), yield* answers(64)]
      expect(together.map(({ tokenIds }) => tokenIds)).toEqual(apart.map(({ tokenIds }) => tokenIds))
    })
  )

  it.live("gives the same bits alone, in other batches and in other orders: 64 prompts of 48 tokens", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      // Some share a prefix of two blocks, some are repeated under another id, the lengths are from 1 to 200.
      const many = Array.from({ length: 64 }, (_, i) => {
        const own = Array.from({ length: 1 + ((i * 37) % 70) }, (_, t) => 3 + ((i * 31 + t * 17) % 300))
        const prefix = i % 3 === 0 ? Array.from({ length: 130 }, (_, t) => 3 + ((t * 29) % 300)) : []
        return request(`many ${i}`, i % 8 === 7 ? prompts[1]!.ids : [...prefix, ...own], { maxTokens: 48 })
      })
      for (const adapter of [undefined, yield* adapterOf(checkpoint, 1)]) {
        const requests = many.map((r) => ({ ...r, adapter }))
        const run = (maxRows: number, order: ReadonlyArray<Decoder.Request>, concurrency: number | "unbounded") =>
          Effect.gen(function* () {
            const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows })
            const found = yield* Effect.forEach(
              order,
              (r) => Effect.map(decoder.generate(r), (c) => [r.id, c] as const),
              {
                concurrency
              }
            )
            const byId = new Map(found)
            return requests.map(({ id }) => {
              const { logprobs, samplingLogprobs, tokenIds } = byId.get(id)!
              return { tokenIds, logprobs, samplingLogprobs }
            })
          }).pipe(Effect.scoped)
        const alone = yield* run(1, requests, 1)
        const backwards = [...requests].reverse()
        expect(yield* run(64, requests, "unbounded")).toEqual(alone)
        expect(yield* run(7, backwards, "unbounded")).toEqual(alone)
        expect(yield* run(32, Random.make(5).shuffle(requests), 20)).toEqual(alone)
      }
    })
  )

  it.live("gives the same bits with adapters of a high rank, whose products are cut among threads", () =>
    Effect.gen(function* () {
      const checkpoint = yield* Checkpoint.open(sandbox)
      for (const rank of [64, 20, 33, 100, 200]) {
        const adapter = yield* adapterOf(checkpoint, 1, rank)
        const requests = prompts.map((p) => ({ ...p, adapter, maxTokens: 6 }))
        const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 32 })
        const together = yield* Effect.forEach(requests, decoder.generate, { concurrency: "unbounded" })
        expect(yield* Effect.forEach(requests, decoder.generate), `rank ${rank}`).toEqual(together)
      }
    })
  )

  it.live("serves several adapters at once, each with its own numbers", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 4 })
      const adapters = [undefined, yield* adapterOf(checkpoint, 1), yield* adapterOf(checkpoint, 2)]
      const requests = prompts.map((p, i) => ({ ...p, adapter: adapters[i % 3] }))
      const together = yield* Effect.forEach(requests, decoder.generate, { concurrency: "unbounded" })
      for (const [i, adapter] of adapters.entries()) {
        const its = requests.filter((r) => r.adapter === adapter)
        const alone = yield* Effect.forEach(its, decoder.generate, { concurrency: "unbounded" })
        expect(together.filter((_, n) => n % 3 === i)).toEqual(alone)
      }
      const base = yield* decoder.generate({ ...requests[1]!, adapter: undefined })
      expect(base.logprobs).not.toEqual(together[1]!.logprobs)
    })
  )

  it.live("returns the log-probabilities that the scorer gives for the same tokens", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 8 })
      const scorer = yield* Scorer.make(checkpoint, { maxTokens: 256 })
      for (const prompt of prompts.slice(0, 6)) {
        const { logprobs, tokenIds } = yield* decoder.generate({ ...prompt, temperature: 0.7 })
        const scored = yield* scorer.score({
          ids: [...prompt.ids, ...tokenIds],
          adapter: undefined,
          kind: "logprobs",
          at: tokenIds.map((_, t) => prompt.ids.length + t - 1),
          targets: tokenIds
        })
        expect(Golden.distance(logprobs, scored)).toBeLessThan(1e-3)
      }
    })
  )

  it.live("ends at a stop token, which is the last one, and says whether it ended by itself", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 8 })
      const free = yield* decoder.generate(request("a", [5, 6, 7], { stopIds: new Set(), maxTokens: 6 }))
      expect(free.tokenIds).toHaveLength(6)
      expect(free.finish).toBe("length")
      const third = free.tokenIds[2]!
      const stopped = yield* decoder.generate(request("a", [5, 6, 7], { stopIds: new Set([third]), maxTokens: 6 }))
      expect(stopped.tokenIds).toEqual(free.tokenIds.slice(0, free.tokenIds.indexOf(third) + 1))
      expect(stopped.finish).toBe("stop")
      const told = yield* decoder.generate(request("a", [5, 6, 7], { maxTokens: 6, stop: (ids) => ids.length === 2 }))
      expect(told.tokenIds).toEqual(free.tokenIds.slice(0, 2))
    })
  )

  it.live("samples from the distribution: 20,000 first tokens pass a chi-square test, and so do filtered ones", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const vocabulary = checkpoint.config.vocabSize
      const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 256 })
      const scorer = yield* Scorer.make(checkpoint, { maxTokens: 4096 })
      const logprobs = yield* scorer.score({
        ids: [5, 6, 7],
        adapter: undefined,
        kind: "logprobs",
        at: Array(vocabulary).fill(2),
        targets: Array.from({ length: vocabulary }, (_, i) => i)
      })
      for (const { draws, ...options } of [
        { temperature: 0.7, draws: 20_000 },
        { temperature: 1, topK: 20, draws: 4000 }
      ] as ReadonlyArray<{ draws: number; temperature: number; topK?: number }>) {
        const { topK = vocabulary, temperature } = options
        const least = [...logprobs].sort((a, b) => b - a)[topK - 1]!
        const weights = logprobs.map((lp) => (lp >= least ? Math.exp(lp / temperature) : 0))
        const total = weights.reduce((a, b) => a + b, 0)
        const drawn = yield* Effect.forEach(
          Array.from({ length: draws }, (_, i) => request(`draw ${i}`, [5, 6, 7], { maxTokens: 1, ...options })),
          decoder.generate,
          { concurrency: "unbounded" }
        )
        const counts = new Float64Array(vocabulary)
        for (const { tokenIds } of drawn) counts[tokenIds[0]!]! += 1
        const statistic = weights.reduce((sum, weight, i) => {
          if (weight === 0) return counts[i] === 0 ? sum : Number.POSITIVE_INFINITY
          const expected = (draws * weight) / total
          return sum + (counts[i]! - expected) ** 2 / expected
        }, 0)
        // Mean k and variance 2k for k degrees of freedom; this is four deviations.
        const freedom = topK - 1
        expect(statistic).toBeLessThan(freedom + 4 * Math.sqrt(2 * freedom))
        const { samplingLogprobs, tokenIds } = drawn[0]!
        expect(samplingLogprobs[0]).toBeCloseTo(Math.log(weights[tokenIds[0]!]! / total), 4)
      }
    })
  )

  it.live("samples with filters what the pure function draws from the scorer's distribution", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const vocabulary = checkpoint.config.vocabSize
      const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 8 })
      const scorer = yield* Scorer.make(checkpoint, { maxTokens: 512 })
      const filters: ReadonlyArray<Sampling.Options> = [
        { temperature: 0.9, topK: 40, topP: 0.8, minP: 0.05, logitBias: new Map([[9, 3]]) },
        { temperature: 0.7, topP: 0.8 },
        { temperature: 1.3, topP: 0.6, minP: 0.02 },
        { temperature: 1, topP: 0.5 },
        { temperature: 0.8, topK: 10 }
      ]
      const filtered = filters.map((options, i) => ({ ...prompts[i]!, ...options, maxTokens: 5 }))
      // In one batch with others that have no filter.
      const [found] = yield* Effect.all(
        [
          Effect.forEach(filtered, decoder.generate, { concurrency: "unbounded" }),
          Effect.forEach(prompts.slice(filters.length), decoder.generate, { concurrency: "unbounded" })
        ],
        { concurrency: "unbounded" }
      )
      for (const [i, { logprobs, samplingLogprobs, tokenIds }] of found.entries()) {
        const { id, ids, seed } = filtered[i]!
        for (const [t, token] of tokenIds.entries()) {
          const before = [...ids, ...tokenIds.slice(0, t)]
          const scores = yield* scorer.score({
            ids: before,
            adapter: undefined,
            kind: "logprobs",
            at: Array(vocabulary).fill(before.length - 1),
            targets: Array.from({ length: vocabulary }, (_, n) => n)
          })
          const expected = Sampling.draw(Float32Array.from(scores), filters[i]!, Random.uniform(seed, "token", id, t))
          expect(token).toBe(expected.token)
          expect(logprobs[t]).toBeCloseTo(expected.logprob, 4)
          expect(samplingLogprobs[t]).toBeCloseTo(expected.samplingLogprob, 4)
        }
      }
    })
  )

  it.live("penalises what stands in the prompt and in the continuation so far", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 8 })
      for (const prompt of prompts.slice(0, 3)) {
        const never = { temperature: 0, repetitionPenalty: 1e6, maxTokens: 20, stopIds: new Set<number>() }
        const { samplingLogprobs, tokenIds } = yield* decoder.generate({ ...prompt, ...never })
        const all = [...new Set(prompt.ids), ...tokenIds]
        expect(new Set(all).size).toBe(all.length)
        expect(samplingLogprobs).toEqual(Array(20).fill(0))
      }
    })
  )

  it.live("keeps within its memory: a cache of two rows serves many prompts one after the other", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const narrow = yield* Decoder.make(checkpoint, { memory: KvCache.bytes(checkpoint.config, 2, 24), maxRows: 64 })
      const wide = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 64 })
      const some = prompts.slice(0, 5)
      const one = yield* Effect.forEach(some, narrow.generate, { concurrency: "unbounded" })
      const many = yield* Effect.forEach(some, wide.generate, { concurrency: "unbounded" })
      expect(one).toEqual(many)
    })
  )

  it.live("keeps room for what a long row is still to write beside those that are taken in", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      // Two rows of 128 tokens, or four of 64.
      const decoder = yield* Decoder.make(checkpoint, { memory: KvCache.bytes(checkpoint.config, 2, 128), maxRows: 64 })
      const ticks: Array<string> = []
      const ticking = (id: string, maxTokens: number) => {
        const stop = () => {
          ticks.push(id)
          return false
        }
        return request(id, [5, 6], { maxTokens, stop, stopIds: new Set() })
      }
      const all = [ticking("long", 120), ...["a", "b", "c", "d"].map((id) => ticking(id, 20))]
      yield* Effect.forEach(all, decoder.generate, { concurrency: "unbounded" })
      // Each step asks every row once, so between two tokens of the long one there is one other, or one and its successor.
      const others = ticks.join(" ").split("long").slice(1, -1)
      expect(others.length).toBe(119)
      expect(others.filter((between) => between.trim().length > 1)).toEqual([" a b ", " b c ", " c d "])
    })
  )

  it.live("serves those first that are alike in length, with the same results", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const wide = { ...checkpoint, config: { ...checkpoint.config, maxPositions: 600 } }
      const long = request("long", Array<number>(300).fill(5), { maxTokens: 4, stopIds: new Set() })
      const all = [prompts[0]!, long, ...prompts.slice(1, 9)]
      const decoder = yield* Decoder.make(wide, { memory: 1e8, maxRows: 1 })
      const order: Array<string> = []
      const answers = yield* Effect.forEach(
        all,
        (r) => Effect.tap(decoder.generate(r), () => Effect.sync(() => order.push(r.id))),
        { concurrency: "unbounded" }
      )
      expect(order).toEqual([...prompts.slice(0, 9), long].map(({ id }) => id))
      const alone = yield* Decoder.make(wide, { memory: 1e8, maxRows: 1 })
      expect(yield* Effect.forEach(all, alone.generate)).toEqual(answers)
    })
  )

  it.live("refuses what can never fit into its memory, and options that mean nothing", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const decoder = yield* Decoder.make(checkpoint, { memory: KvCache.bytes(checkpoint.config, 2, 64), maxRows: 64 })
      const long = yield* Effect.flip(decoder.generate(request("long", [5, 6], { maxTokens: 63 })))
      expect(long).toMatchObject({ _tag: "DecoderError", reason: "memory" })
      const odd = yield* Effect.flip(decoder.generate(request("odd", [5, 6], { topP: 2 })))
      expect(odd).toMatchObject({ _tag: "DecoderError", reason: "options" })
      const far = yield* Effect.flip(decoder.generate(request("far", Array<number>(256).fill(5), { maxTokens: 1 })))
      expect(far).toMatchObject({ _tag: "DecoderError", reason: "context" })
      expect((yield* decoder.generate(request("fits", [5, 6], { maxTokens: 62 }))).tokenIds.length).toBeGreaterThan(0)
      const least = Decoder.leastMemory(checkpoint.config, { ids: [5, 6], maxTokens: 62 })
      const narrower = yield* Decoder.make(checkpoint, { memory: least - 1, maxRows: 64 })
      expect(yield* Effect.flip(narrower.generate(request("fits", [5, 6], { maxTokens: 62 })))).toMatchObject({
        reason: "memory"
      })
    })
  )

  it.effect("has a usual budget of 1 GiB, or what the longest sequence needs, within a quarter of the machine", () =>
    Effect.gen(function* () {
      const { config } = (yield* Golden.load).checkpoint
      const gib = 2 ** 30
      expect(Decoder.usualMemory(config, 64 * gib)).toBe(gib)
      // As SmolLM2-1.7B: heads that share no keys, 384 KiB of keys and values a token, in two rows.
      const wide = { ...config, layers: 24, heads: 32, kvHeads: 32, headDim: 64, maxPositions: 8192 }
      expect(Decoder.usualMemory(wide, 64 * gib)).toBe(Decoder.leastMemory(wide, { ids: [], maxTokens: 8192 }))
      expect(Decoder.usualMemory(wide, 64 * gib)).toBeGreaterThanOrEqual(8192 * 2 * 384 * 1024)
      expect(Decoder.usualMemory(wide, 16 * gib)).toBe(4 * gib)
      expect(Decoder.usualMemory(wide, gib)).toBe(gib)
    })
  )

  it.live("tells those who wait of a failure, whatever it is, and serves the next ones", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const broken = yield* Decoder.make({ ...checkpoint, tensors: new Map() }, { memory: 1e8, maxRows: 4 })
      for (const id of ["first", "second"]) {
        const exit = yield* Effect.exit(broken.generate(request(id, [5, 6])))
        expect(String(exit)).toContain("the checkpoint has no")
      }
    })
  )

  it.live(
    "answers who comes after an adapter has learnt with what it learnt, and ends the rows that it was at as they began",
    () =>
      Effect.gen(function* () {
        const { checkpoint } = yield* Golden.load
        const [adapter, before, after] = [
          yield* adapterOf(checkpoint, 1),
          yield* adapterOf(checkpoint, 1),
          yield* adapterOf(checkpoint, 2)
        ]
        const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 4 })
        const learnt = yield* Latch.make(false)
        const stop = (tokenIds: ReadonlyArray<number>) => {
          if (tokenIds.length === 5) {
            adapter.vector = after.vector
            learnt.openUnsafe()
          }
          return false
        }
        const long = request("long", [5, 6], { adapter, stop, maxTokens: 60, temperature: 0, stopIds: new Set() })
        const short = request("short", [7, 8], { adapter, temperature: 0 })
        const [first, second] = yield* Effect.all(
          [decoder.generate(long), Effect.andThen(learnt.await, decoder.generate(short))],
          { concurrency: 2 }
        )
        const alone = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 4 })
        expect(second).toEqual(yield* alone.generate({ ...short, adapter: after }))
        expect(second).not.toEqual(yield* alone.generate({ ...short, adapter: before }))
        expect(first).toEqual(yield* alone.generate({ ...long, adapter: before, stop: () => false }))
      })
  )

  it.live("is greedy at a temperature that is too small to divide by", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 4 })
      const at = (temperature: number) => decoder.generate(request("cold", [5, 6, 7], { temperature }))
      const greedy = yield* at(0)
      for (const temperature of [1e-38, 1e-45, 1e-320, 1e-9]) expect(yield* at(temperature)).toEqual(greedy)
    })
  )

  it.live("forgets a request that nobody waits for any more", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 1 })
      const endless = request("endless", [5], { maxTokens: 250, stopIds: new Set() })
      const fibers = yield* Effect.forEach([endless, { ...endless, id: "waiting" }], (r) =>
        Effect.forkChild(decoder.generate(r))
      )
      yield* Effect.sleep("20 millis")
      yield* Fiber.interruptAll(fibers)
      const short = yield* decoder.generate(request("short", [5], { maxTokens: 3 }))
      expect(short.tokenIds.length).toBeGreaterThan(0)
      yield* Effect.sleep("50 millis")
      expect(decoder.busy()).toBe(false)
    })
  )
})
