import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { fileURLToPath } from "node:url"
import { vi } from "vitest"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as ScoreProgram from "../../src/engine/ScoreProgram.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Session from "../../src/onnx/Session.ts"

// As under an affinity or a quota: the process may use less than the machine has.
vi.mock("node:os", async (original) => ({ ...(await original<object>()), availableParallelism: () => 1 }))

describe("a process that may use one core of several", () => {
  it.live("gives a row the same bits alone and among others", () =>
    Effect.gen(function* () {
      assert.strictEqual(Session.mostThreads, 1)
      const checkpoint = yield* Checkpoint.open(fileURLToPath(new URL("../../assets/sandbox", import.meta.url)))
      const scorer = yield* Scorer.make(checkpoint, { maxTokens: 4096 })
      const rows = Array.from({ length: 16 }, (_, b) => Array.from({ length: 20 + (b % 5) }, (_, t) => 20 + b * t))
      const score = (ids: ReadonlyArray<number>) =>
        scorer.score({ ids, adapter: undefined, kind: "logprobs", at: [ids.length - 2], targets: [ids.at(-1)!] })
      const alone = yield* Effect.forEach(rows, score)
      const together = yield* Effect.forEach(rows, score, { concurrency: "unbounded" })
      assert.deepStrictEqual(together, alone)
    })
  )
})

describe("a narrow network", () => {
  it.effect("is one of which a thread gets no more than 64 columns, in whole blocks of 16", () =>
    Effect.gen(function* () {
      const { config } = yield* Checkpoint.open(fileURLToPath(new URL("../../assets/sandbox", import.meta.url)))
      const of = (width: number, threads: number) =>
        ScoreProgram.isNarrow({ ...config, headDim: 16, hiddenSize: 4096, kvHeads: width / 16 }, threads)
      assert.deepStrictEqual([of(128, 2), of(144, 2), of(160, 2)], [true, true, false])
      assert.deepStrictEqual([of(192, 2), of(192, 3), of(224, 3), of(240, 3)], [false, true, true, false])
      assert.deepStrictEqual([of(304, 4), of(320, 4)], [true, false])
    })
  )
})
