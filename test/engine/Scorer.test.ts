import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { fileURLToPath } from "node:url"
import { InferenceSession } from "onnxruntime-node"
import { vi } from "vitest"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Golden from "./golden.ts"

describe("the scorer", () => {
  it.live("gives transformers' log-probabilities to rows of any length, in whatever batch they land", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const mask = yield* golden.integers("attention_mask")
      const expected = yield* golden.floats("token_logprobs")
      for (const maxTokens of [1, 48, 4096]) {
        const scorer = yield* Scorer.make(golden.checkpoint, { maxTokens })
        const scored = yield* Effect.forEach(
          golden.rows,
          (row, b) => {
            const length = mask.slice(b * 24, b * 24 + 24).filter((m) => m === 1).length
            const ids = row.slice(0, length)
            return scorer.score({
              ids,
              adapter: undefined,
              kind: "logprobs",
              at: ids.slice(1).map((_, t) => t),
              targets: ids.slice(1)
            })
          },
          { concurrency: "unbounded" }
        )
        scored.forEach((logprobs, b) => {
          const golden = expected.subarray(b * 23, b * 23 + logprobs.length)
          expect(Golden.distance(logprobs, golden)).toBeLessThan(1e-4)
        })
      }
    })
  )

  it.live("gives up what nobody waits for any more", () =>
    Effect.gen(function* () {
      const checkpoint = yield* Checkpoint.open(fileURLToPath(new URL("../../assets/sandbox", import.meta.url)))
      // Rows enough for a minute, one at a time, and one more that is asked for when they are abandoned.
      const scorer = yield* Scorer.make(checkpoint, { maxTokens: 1 })
      const ids = Array.from({ length: 180 }, (_, t) => 20 + t)
      const score = (ids: ReadonlyArray<number>) =>
        scorer.score({ ids, adapter: undefined, kind: "logprobs", at: [0], targets: [ids[1]!] })
      yield* score(ids)
      const started = performance.now()
      yield* score(ids)
      const one = performance.now() - started
      const many = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 2000 }), () => score(ids), { concurrency: "unbounded" })
      )
      yield* Effect.sleep("50 millis")
      yield* Fiber.interrupt(many)
      const asked = performance.now()
      yield* score([20, 21])
      expect(performance.now() - asked).toBeLessThan(500 * one)
    })
  )

  it.live("gives a row the same bits alone and among others, of whatever length they are", () =>
    Effect.gen(function* () {
      const checkpoint = yield* Checkpoint.open(fileURLToPath(new URL("../../assets/sandbox", import.meta.url)))
      const scorer = yield* Scorer.make(checkpoint, { maxTokens: 4096 })
      const targets = Lora.allTargets(checkpoint.config)
      const adapterOf = Effect.fnUntraced(function* (rank: number) {
        const fresh = yield* Effect.fromResult(Lora.init(checkpoint.config, { rank, alpha: 2 * rank, targets }, 1))
        const adapter = Adapters.fromLora(fresh, checkpoint.config)
        // What was learnt is not zero.
        adapter.vector = adapter.vector.map((x, i) => (x === 0 ? 0.02 * Math.sin(i) : x))
        return adapter
      })
      for (const used of [undefined, yield* adapterOf(16), yield* adapterOf(200)]) {
        const rows = Array.from({ length: 16 }, (_, b) => Array.from({ length: 20 + (b % 5) }, (_, t) => 20 + b * t))
        const score = (ids: ReadonlyArray<number>) =>
          scorer.score({ ids, adapter: used, kind: "logprobs", at: [ids.length - 2], targets: [ids.at(-1)!] })
        const alone = yield* Effect.forEach(rows, score)
        for (const count of [4, 8, 16]) {
          const together = yield* Effect.forEach(rows.slice(0, count), score, { concurrency: "unbounded" })
          expect(together).toEqual(alone.slice(0, count))
        }
      }
    })
  )

  it.live("divides logits by any temperature, also where they are capped, without compiling anything again", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const targets = Array.from({ length: checkpoint.config.vocabSize }, (_, id) => id)
      for (const logitSoftCap of [undefined, 0.5]) {
        const scorer = yield* Scorer.make(
          { ...checkpoint, config: { ...checkpoint.config, logitSoftCap } },
          { maxTokens: 64 }
        )
        const request = {
          ids: [5, 6, 7],
          adapter: undefined,
          kind: "logprobs",
          at: targets.map(() => 2),
          targets
        } as const
        const plain = yield* scorer.score(request)
        const compile = vi.spyOn(InferenceSession, "create")
        for (const temperature of [0.5, 0.7, 1, 1.5]) {
          const scored = yield* scorer.score({ ...request, temperature })
          const divided = plain.map((x) => x / temperature)
          const normalizer = Math.log(divided.reduce((sum, x) => sum + Math.exp(x), 0))
          const expected = divided.map((x) => x - normalizer)
          expect(Golden.distance(scored, expected)).toBeLessThan(1e-5)
        }
        expect(compile).not.toHaveBeenCalled()
        compile.mockRestore()
      }
    })
  )

  it.live("gives a row of a single token the same bits alone and among others", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const scorer = yield* Scorer.make(checkpoint, { maxTokens: 4096 })
      const adapter = Adapters.fromLora(
        yield* Lora.read(`${Golden.folder}/adapter`, checkpoint.config),
        checkpoint.config
      )
      const single = Array.from({ length: 8 }, (_, i) => [20 + i])
      const score = (ids: ReadonlyArray<number>) =>
        scorer.score({ ids, adapter, kind: "logprobs", at: [0], targets: [30] })
      const alone = yield* Effect.forEach(single, score)
      const together = yield* Effect.forEach([...single, [5, 6, 7]], score, { concurrency: "unbounded" })
      expect(together.slice(0, -1)).toEqual(alone)
    })
  )

  it.live("gives rows that begin alike the numbers of each by itself, for every family of models", () =>
    Effect.gen(function* () {
      for (const model of ["llama", "qwen2", "qwen3", "gemma3", "phi3", "olmo2", "smollm3", "mistral", "ministral"]) {
        const checkpoint = yield* Checkpoint.open(fileURLToPath(new URL(`../fixtures/tiny-${model}`, import.meta.url)))
        const scorer = yield* Scorer.make(checkpoint, { maxTokens: 4096 })
        const lora = yield* Effect.fromResult(
          Lora.init(checkpoint.config, { rank: 4, alpha: 8, targets: Lora.allTargets(checkpoint.config) }, 1)
        )
        const adapter = Adapters.fromLora(lora, checkpoint.config, { value: true })
        adapter.vector = adapter.vector.map((x, i) => (x === 0 ? 0.02 * Math.sin(i) : x))
        const prompt = Array.from({ length: 20 }, (_, t) => 5 + t)
        const rows = [[30, 31], [30, 32, 33, 34], [40]].map((answer) => [...prompt, ...answer])
        for (const [kind, used] of [
          ["logprobs", undefined],
          ["logprobs", adapter],
          ["value", adapter]
        ] as const) {
          const requests = rows.map((ids) => {
            const at = ids.slice(prompt.length).map((_, t) => prompt.length + t - 1)
            return { ids, adapter: used, kind, at, targets: kind === "value" ? [] : ids.slice(prompt.length) }
          })
          const alone = yield* Effect.forEach(requests, scorer.score)
          const together = yield* scorer.family(requests)
          together.forEach((numbers, r) => {
            expect(numbers).toHaveLength(requests[r]!.at.length)
            expect(Golden.distance(numbers, alone[r]!), `${model} ${kind}`).toBeLessThan(1e-4)
          })
        }
      }
    })
  )
})
