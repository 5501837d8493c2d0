import { describe, expect, it } from "@effect/vitest"
import * as Batch from "../../src/engine/Batch.ts"
import type { MicroBatch } from "../../src/engine/Learner.ts"

const numbers = ({ feeds }: MicroBatch, name: string): ReadonlyArray<number> =>
  Array.from(feeds[name]!.data as ArrayLike<number | bigint>, Number)

describe("a batch of pairs", () => {
  const pair = { first: [1, 2, 3, 4], second: [1, 2, 5], probability: 0.75, margin: 0.5, from: 2 }

  it("learns every token of the answers by dpo, and none of the prompt", () => {
    const batch = Batch.directPreferences([pair], 4, [-1, -2])
    expect(numbers(batch, "targets")).toEqual([3, 4, 5])
    expect(numbers(batch, "sequence")).toEqual([0, 0, 1])
    expect(numbers(batch, "reference")).toEqual([-1, -2])
  })

  it.each([
    ["dpo", Batch.directPreferences([pair], 4, [-1, -2])],
    ["a reward model", Batch.preferences([pair], 4)]
  ])("hands label, margin and share of the batch on to %s", (_, batch) => {
    expect(numbers(batch, "target")).toEqual([0.75])
    expect(numbers(batch, "margin")).toEqual([0.5])
    expect(numbers(batch, "weights")).toEqual([0.25])
    expect([numbers(batch, "first"), numbers(batch, "second")]).toEqual([[0], [1]])
  })
})
