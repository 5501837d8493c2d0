import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as HeadLoss from "../../src/engine/HeadLoss.ts"
import * as Gradient from "../../src/onnx/Gradient.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Op from "../../src/onnx/Op.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as Random from "../../src/Random.ts"
import * as Golden from "./golden.ts"

const [vocabulary, width] = [37, 5]

const numbers = (seed: number, n: number) => {
  const random = Random.make(seed, "head")
  return Float32Array.from({ length: n }, () => random.normal())
}

/** Log-probabilities of `count` tokens and the gradients of a weighted sum, computed in chunks or (0) at once. */
const evaluate = (count: number, chunks: number, learns: "nothing" | "hidden" | "all", cap?: number) =>
  Effect.scoped(
    Effect.gen(function* () {
      const graph = Graph.make("head")
      const hidden = Graph.input(graph, "hidden", "float32", ["N", width])
      const weight = Graph.input(graph, "weight", "float32", [vocabulary, width])
      const targets = Graph.input(graph, "targets", "int64", ["N"])
      const projection = {
        logits: (h: Graph.Value) => Op.matmul(h, weight, { transB: true }),
        rows: (at: Graph.Value) => Op.gather(weight, at),
        expected: (p: Graph.Value) => Op.matmul(p, weight)
      }
      const capped = (z: Graph.Value) => (cap === undefined ? z : Op.scale(Op.tanh(Op.scale(z, 1 / cap)), cap))
      const logprobs =
        chunks === 0
          ? Op.tokenLogprobs(capped(projection.logits(hidden)), targets)
          : HeadLoss.logprobs(hidden, targets, {
              chunks,
              learns: learns === "all" ? weight : learns,
              projection,
              cap
            })
      Graph.output(graph, "logprobs", logprobs)
      if (learns !== "nothing") {
        const leaves = learns === "all" ? [hidden, weight] : [hidden]
        const weights = Graph.input(graph, "weights", "float32", ["N"])
        const loss = Op.sumAll(Op.mul(logprobs, weights))
        Gradient.gradients(loss, leaves).forEach((g, i) => Graph.output(graph, `gradient ${i}`, g))
      }
      const session = yield* Session.make(graph)
      const random = Random.make(3, "targets")
      const fed: Session.Feeds = {
        hidden: Session.float32(numbers(1, count * width), [count, width]),
        weight: Session.float32(numbers(2, vocabulary * width), [vocabulary, width]),
        targets: Session.int64(
          Array.from({ length: count }, () => random.int(vocabulary)),
          [count]
        ),
        ...(learns === "nothing" ? {} : { weights: Session.float32(numbers(4, count), [count]) }),
        ...(chunks > 1 ? { chunks: Session.int64(HeadLoss.sizes(count, chunks), [chunks]) } : {})
      }
      const results = yield* session.run(fed)
      return Object.values(results).map(Session.floats)
    })
  )

describe("log-probabilities in chunks", () => {
  for (const learns of ["nothing", "hidden", "all"] as const) {
    it.effect(`are those of the whole, with the gradients of ${learns}`, () =>
      Effect.gen(function* () {
        // Also fewer tokens than chunks, so that some are empty.
        for (const [count, chunks] of [
          [11, 1],
          [11, 4],
          [3, 4],
          [1, 4]
        ] as const) {
          for (const cap of [undefined, 2]) {
            const whole = yield* evaluate(count, 0, learns, cap)
            const parts = yield* evaluate(count, chunks, learns, cap)
            expect(parts).toHaveLength(whole.length)
            parts.forEach((part, i) => expect(Golden.distance(part, whole[i]!)).toBeLessThan(1e-5))
          }
        }
      })
    )
  }

  it("have as many chunks as keep the logits small, of even sizes", () => {
    expect(HeadLoss.chunksFor(2048, 49_152)).toBe(6)
    expect(HeadLoss.chunksFor(2048, 700)).toBe(1)
    // Of no use to anybody, but what a careless --micro-batch asks for.
    expect(HeadLoss.chunksFor(19_000_000, 49_152)).toBe(64)
    expect(HeadLoss.sizes(10, 4)).toEqual([2, 3, 2, 3])
    expect(HeadLoss.sizes(2, 4)).toEqual([0, 1, 0, 1])
  })
})
