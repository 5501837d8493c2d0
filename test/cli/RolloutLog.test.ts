import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFileSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as RolloutLog from "../../src/cli/RolloutLog.ts"
import { workplace } from "../workplace.ts"

/** An answer; a long one lies across what is read of the file at once. */
const rollout = (step: number, index: number, text = "Yes, 😀.".repeat(2000)): RolloutLog.Rollout => ({
  step,
  id: `${step}/${index}`,
  promptIds: [1, 2],
  tokenIds: [3, 4],
  logprobs: [-0.5, -1.25],
  finish: "stop",
  score: 1.5,
  reward: 1,
  text
})

const answers = [1, 2, 3].map((step) => Array.from({ length: 8 }, (_, i) => rollout(step, i)))

const jsonl = (rows: ReadonlyArray<object>) => rows.map((row) => `${JSON.stringify(row)}\n`).join("")

describe("the log of sampled answers", () => {
  it.effect("keeps those of finished updates, gives those of the next one, and goes on behind", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "rollouts.jsonl")
      writeFileSync(file, `${jsonl(answers.flat())}{"step": 4, "te`)
      const log = yield* RolloutLog.open(file, 1)
      assert.deepStrictEqual(log.of(2), answers[1])
      assert.deepStrictEqual(log.of(3), [])
      assert.isTrue(readFileSync(file, "utf8") === jsonl(answers[0]!))
      yield* log.append(log.of(2))
      assert.isTrue(readFileSync(file, "utf8") === jsonl(answers.slice(0, 2).flat()))
    }).pipe(Effect.scoped)
  )

  it.effect("may be longer than any text", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "rollouts.jsonl")
      writeFileSync(file, jsonl(answers.slice(0, 2).flat()))
      // Zeros that take no room on the disk, as a machine may leave them that went down.
      truncateSync(file, 513 * 2 ** 20)
      const log = yield* RolloutLog.open(file, 1)
      assert.deepStrictEqual(log.of(2), answers[1])
      assert.isTrue(readFileSync(file, "utf8") === jsonl(answers[0]!))
    }).pipe(Effect.scoped)
  )
})
