import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import type { Continuation, Job, Request } from "../../src/engine/DecodeJob.ts"
import { enqueue, rankOf } from "../../src/engine/DecodeJob.ts"
import type { SessionError } from "../../src/onnx/Session.ts"
import * as Random from "../../src/Random.ts"

const done = Effect.runSync(Deferred.make<Continuation, SessionError>())

/** A queue of requests that come to hold so many tokens, in the order in which they would be served. */
const served = (needs: ReadonlyArray<number>): ReadonlyArray<number> => {
  const queue: Array<Job> = []
  needs.forEach((need, arrival) => {
    const request: Request = {
      id: `${arrival}`,
      ids: [1],
      adapter: undefined,
      seed: 0,
      maxTokens: need - 1,
      temperature: 1,
      stopIds: new Set()
    }
    const rank = rankOf(request, arrival)
    const room = { tokenIds: [], logprobs: [], samplingLogprobs: [] }
    enqueue(queue, { request, rank, plain: true, done, ...room, finish: undefined })
  })
  return queue.map(({ request }) => Number(request.id))
}

describe("those who wait for the decoder", () => {
  it("are served in the order in which they came, where they are alike in length", () => {
    const needs = Array.from({ length: 500 }, (_, i) => 2 + Random.make(1, i).int(254))
    expect(served(needs)).toEqual(needs.map((_, i) => i))
  })

  it("go together where they are alike", () => {
    const needs = Array.from({ length: 64 }, (_, i) => (i % 8 === 3 ? 1000 : 60))
    const [short, long] = Map.groupBy(needs.keys(), (i) => needs[i]!).values()
    expect(served(needs)).toEqual([...short!, ...long!])
  })

  it("let fewer than 256 later ones pass for each doubling of their length, and wait for no more", () => {
    for (const [need, passing] of [
      [256, 0],
      [257, 255],
      [512, 255],
      [2000, 767]
    ] as const) {
      const order = served([need, ...Array<number>(2000).fill(10)])
      expect(order.indexOf(0)).toBe(passing)
    }
  })
})
