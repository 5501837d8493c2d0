import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Attend from "../../src/onnx/Attend.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as Plain from "./Plain.ts"

const numbers = (length: number, seed: number) => Plain.numbers(length, seed, 5)

describe("causal attention", () => {
  for (const [d, window, blockwise] of [
    [8, undefined, false],
    [8, undefined, true],
    [8, 3, false],
    [8, 3, true],
    [4, 3, false],
    [12, undefined, false]
  ] as const) {
    const within = `${window === undefined ? "" : ` within ${window} tokens`}${blockwise ? ", block by block" : ""}`
    it.live(`of heads of ${d} dimensions is softmax over what a token sees${within}`, () =>
      Effect.gen(function* () {
        const [B, T, heads, kvHeads, scale] = [2, 7, 4, 2, 0.3]
        const graph = Graph.make("attention")
        const input = (name: string, width: number) => Graph.input(graph, name, "float32", ["B", "T", width])
        const attended = Attend.causal(
          input("q", heads * d),
          input("k", kvHeads * d),
          input("v", kvHeads * d),
          Graph.input(graph, "last", "int32", ["B"]),
          Graph.input(graph, "total", "int32", []),
          { blockwise, heads, kvHeads, scale, window }
        )
        Graph.output(graph, "y", attended)
        const session = yield* Session.make(graph)
        const [q, k, v] = [heads, kvHeads, kvHeads].map((n, i) => numbers(B * T * n * d, i))
        const { y } = yield* session.run({
          q: Session.float32(q!, [B, T, heads * d]),
          k: Session.float32(k!, [B, T, kvHeads * d]),
          v: Session.float32(v!, [B, T, kvHeads * d]),
          last: new Session.Tensor("int32", new Int32Array(B).fill(T - 1), [B]),
          total: new Session.Tensor("int32", new Int32Array([T]), [])
        })
        const ours = Session.floats(y!)
        for (let b = 0; b < B; b++) {
          for (let t = 0; t < T; t++) {
            for (let h = 0; h < heads; h++) {
              const group = Math.floor(h / (heads / kvHeads))
              const from = window === undefined ? 0 : Math.max(0, t - window + 1)
              const query = ((b * T + t) * heads + h) * d
              const row = (s: number) => ((b * T + s) * kvHeads + group) * d
              const scores = Array.from({ length: t - from + 1 }, (_, i) => {
                let dot = 0
                for (let j = 0; j < d; j++) dot += q![query + j]! * k![row(from + i) + j]!
                return Math.exp(scale * dot)
              })
              const total = scores.reduce((a, x) => a + x, 0)
              for (let j = 0; j < d; j++) {
                const exact = scores.reduce((sum, x, i) => sum + (x / total) * v![row(from + i) + j]!, 0)
                expect(Math.abs(ours[query + j]! - exact)).toBeLessThan(1e-4)
              }
            }
          }
        }
      }).pipe(Effect.scoped)
    )
  }
})
