import { describe, expect, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Objective from "../../src/engine/Objective.ts"
import * as Training from "../../src/engine/Training.ts"
import * as TrainingData from "../../src/engine/TrainingData.ts"
import * as Lora from "../../src/model/Lora.ts"
import type { LearnOptions } from "../../src/Policy.ts"
import * as Golden from "./golden.ts"

const options = (stateDir: string): LearnOptions => ({
  seed: 3,
  epochs: 3,
  batchSize: 3,
  microTokens: 24,
  learningRate: 1e-2,
  schedule: "cosine",
  warmupSteps: 2,
  floor: 0.1,
  weightDecay: 0.01,
  maxGradNorm: 1,
  maxLength: 64,
  stateDir
})

/** Rows of many lengths; eight do not divide into threes, so each epoch ends with a smaller batch. */
const rows = Array.from({ length: 8 }, (_, i) => {
  const ids = Array.from({ length: 4 + ((i * 5) % 9) }, (_, t) => 3 + ((i * 37 + t * 11) % 300))
  return { id: `row ${i}`, ids, weights: ids.map((_, t) => (t < 2 ? 0 : 1)) }
})

const train = Effect.fnUntraced(function* (stateDir: string, steps: number) {
  const { checkpoint } = yield* Golden.load
  const fresh = yield* Effect.fromResult(
    Lora.init(checkpoint.config, { rank: 4, alpha: 8, targets: Lora.allTargets(checkpoint.config) }, 1)
  )
  const adapter = Adapters.fromLora(fresh, checkpoint.config)
  const how = options(stateDir)
  const stream = Training.run(checkpoint, adapter, Objective.sft, TrainingData.supervised(rows, how), how)
  const metrics = yield* Stream.runCollect(Stream.take(stream, steps))
  return {
    adapter,
    losses: Array.from(metrics, (m) => m.loss),
    steps: metrics[0]?.steps,
    first: metrics[0]?.step
  }
})

const temporary = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "charter-training-"))),
  (dir) => Effect.sync(() => fs.rmSync(dir, { recursive: true }))
)

describe("a training", () => {
  it.effect("that was cut off at any step ends with the same bytes as one that was not", () =>
    Effect.gen(function* () {
      const dir = yield* temporary
      const whole = yield* train(path.join(dir, "whole"), 100)
      expect(whole.steps).toBe(9)
      expect(whole.losses).toHaveLength(9)
      for (const cut of [1, 4, 8]) {
        const state = path.join(dir, `cut${cut}`)
        const before = yield* train(state, cut)
        const after = yield* train(state, 100)
        // The state is behind what was taken from the stream, never ahead of it.
        expect(after.first).toBeLessThanOrEqual(cut + 1)
        expect([...before.losses.slice(0, after.first! - 1), ...after.losses]).toEqual(whole.losses)
        expect(Buffer.from(after.adapter.vector.buffer)).toEqual(Buffer.from(whole.adapter.vector.buffer))
      }
    })
  )

  it.effect("that is finished is not repeated", () =>
    Effect.gen(function* () {
      const dir = yield* temporary
      const first = yield* train(dir, 100)
      const again = yield* train(dir, 100)
      expect(again.losses).toEqual([])
      expect(again.adapter.vector).toEqual(first.adapter.vector)
    })
  )

  it("makes micro-batches within the bound out of every row, the longest first", () => {
    const lengths = [3, 9, 4, 40, 5, 5]
    const parts = Training.microBatches(lengths, (n) => n, 20)
    expect(parts.flat().sort()).toEqual([...lengths].sort())
    for (const part of parts) expect(part.length === 1 || part.length * Math.max(...part) <= 20).toBe(true)
  })
})
