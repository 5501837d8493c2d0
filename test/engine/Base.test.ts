import { describe, expect, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import type { Scope } from "effect"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Base from "../../src/engine/Base.ts"
import * as Batch from "../../src/engine/Batch.ts"
import * as Decoder from "../../src/engine/Decoder.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Objective from "../../src/engine/Objective.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Device from "../../src/onnx/Device.ts"
import "../quiet.ts"
import * as Golden from "./golden.ts"

const ids = [5, 9, 17, 33]

type Numbers = Effect.Effect<ReadonlyArray<number>, unknown, Scope.Scope>

/** The first numbers of each program over a base: a sampled token's log-probability, a score, a loss. */
const programs = (base: Base.Base): Record<"decoder" | "scorer" | "learner", Numbers> => ({
  decoder: Effect.gen(function* () {
    const decoder = yield* Decoder.make(base, { memory: 2 ** 20, maxRows: 1 })
    const common = { id: "a", adapter: undefined, seed: 1, temperature: 0, stopIds: new Set<number>() }
    return (yield* decoder.generate({ ...common, ids, maxTokens: 1 })).logprobs
  }),
  scorer: Effect.gen(function* () {
    const scorer = yield* Scorer.make(base, { maxTokens: 64 })
    return yield* scorer.score({ ids, adapter: undefined, kind: "logprobs", at: [0, 1, 2], targets: ids.slice(1) })
  }),
  learner: Effect.gen(function* () {
    const settings = { rank: 2, alpha: 4, targets: Lora.allTargets(base.config) }
    const adapter = Adapters.fromLora(yield* Effect.fromResult(Lora.init(base.config, settings, 1)), base.config)
    const learner = yield* Learner.make(base, adapter, Objective.sft, { microTokens: 64 })
    const rows = [{ ids, weights: ids.map(() => 1) }]
    const rates = { learningRates: [1e-3], weightDecays: [0], maxGradNorm: 1 }
    const step = yield* learner.step(Learner.initialState(adapter.vector), [Batch.supervised(rows, 3)], rates)
    return [step.loss]
  })
})

describe("Base", () => {
  // On a machine without a GPU the programs fail for want of one, and would not if they did not know of the device.
  it.live.each(["decoder", "scorer", "learner"] as const)("has the %s computed on its device", (name) =>
    Effect.gen(function* () {
      const checkpoint = yield* Checkpoint.open(Golden.folder)
      const there = Result.isSuccess(yield* Effect.result(Device.check("cuda")))
      const expected = yield* Effect.scoped(programs(yield* Base.make(checkpoint, {}))[name])
      const found = yield* Effect.result(Effect.scoped(programs({ ...checkpoint, device: "cuda" })[name]))
      if (!there) return expect(Result.isFailure(found) && String(found.failure)).toMatch(/cuda/i)
      const numbers = Result.getOrThrow(found)
      expect(numbers.length).toBe(expected.length)
      numbers.forEach((x, i) => expect(Math.abs(x - expected[i]!)).toBeLessThan(1e-4))
    })
  )

  it.effect("refuses 8 bits on a GPU, and a GPU that is not there", () =>
    Effect.gen(function* () {
      const checkpoint = yield* Checkpoint.open(Golden.folder)
      const error = yield* Effect.flip(Base.make(checkpoint, { device: "cuda", precision: "int8" }))
      expect(error.message).toBe(
        "The runtime has no products of 8-bit numbers on a GPU; leave out the precision int8, or the device."
      )
      const absent = yield* Effect.result(Base.make(checkpoint, { device: "cuda" }))
      if (Result.isFailure(absent)) expect(absent.failure.message).toContain("cannot compute on cuda")
    })
  )
})
