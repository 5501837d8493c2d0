/** Products in 8 bits, and attention in one operator, against plain computations. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import { quantize } from "../../src/model/Quantized.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Op from "../../src/onnx/Op.ts"
import * as Session from "../../src/onnx/Session.ts"

const numbers = (length: number, seed: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898 + seed) * (1 + ((i * 31 + seed) % 5)))

const initializer = (graph: Graph.Graph, name: string, data: Int8Array, shape: ReadonlyArray<number>): Graph.Value => {
  const value: Graph.Value = { graph, name, dtype: "int8", shape }
  graph.initializers.push({ value, data: { _tag: "inline", bytes: new Uint8Array(data.buffer) } })
  return value
}

/** x [rows, K] by w [N, K], both in 8 bits; `split` gives x another axis before. */
const product = Effect.fnUntraced(function* (x: Float32Array, w: Float32Array, K: number, N: number, split = 1) {
  const graph = Graph.make("product")
  const { scale, weight } = quantize(w, N, K)
  const rows = Op.quantizeRows(Graph.input(graph, "x", "float32", split === 1 ? ["R", K] : ["S", "R", K]))
  const scales = Graph.constant(graph, "float32", [N], scale)
  Graph.output(graph, "y", Op.matmulQuantized(rows, initializer(graph, "w", weight, [K, N]), scales))
  Graph.output(graph, "codes", Op.cast(rows.codes, "float32"))
  const session = yield* Session.make(graph)
  const count = x.length / K
  const { codes, y } = yield* session.run({
    x: Session.float32(x, split === 1 ? [count, K] : [split, count / split, K])
  })
  return { y: Session.floats(y!), codes: Session.floats(codes!), dims: y!.dims }
}, Effect.scoped)

describe("products in 8 bits", () => {
  it.effect("are right where two of them are more than 16 bits hold, on every processor", () =>
    Effect.gen(function* () {
      const K = 64
      const { y } = yield* product(new Float32Array(2 * K).fill(1), new Float32Array(3 * K).fill(1), K, 3)
      expect(y).toHaveLength(6)
      for (const x of y) expect(Math.abs(x - K)).toBeLessThan(1e-3)
    })
  )

  it.live("are those of floats but for the rounding of both sides", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.record({ rows: fc.integer({ min: 1, max: 5 }), K: fc.integer({ min: 1, max: 40 }), seed: fc.nat(99) }),
          async ({ K, rows, seed }) => {
            const N = 3
            const x = numbers(rows * K, seed)
            const w = numbers(N * K, seed + 7)
            const { y } = await Effect.runPromise(product(x, w, K, N))
            const largest = (of: Float32Array, row: number) =>
              Math.max(...of.subarray(row * K, row * K + K).map(Math.abs))
            for (let r = 0; r < rows; r++) {
              for (let n = 0; n < N; n++) {
                let exact = 0
                for (let k = 0; k < K; k++) exact += x[r * K + k]! * w[n * K + k]!
                // Each factor is off by half a step at most; a step is a 127th of the largest.
                const bound = (K * largest(x, r) * largest(w, n) * 1.01) / 127 + 1e-4
                expect(Math.abs(y[r * N + n]! - exact)).toBeLessThan(bound)
              }
            }
          }
        ),
        { numRuns: 15 }
      )
    )
  )

  it.live("give a row the same bits whatever rows are beside it, with the zero point 128", () =>
    Effect.gen(function* () {
      const [K, N] = [24, 5]
      const w = numbers(N * K, 3)
      const x = numbers(4 * K, 1)
      x.fill(0, 2 * K, 3 * K)
      const together = yield* product(x, w, K, N)
      const apart = yield* product(
        x.map((v, i) => (i < K ? v : 100 * v)),
        w,
        K,
        N,
        2
      )
      expect(apart.dims).toEqual([2, 2, N])
      expect(Array.from(apart.y.subarray(0, N))).toEqual(Array.from(together.y.subarray(0, N)))
      expect(Array.from(together.codes.subarray(2 * K, 3 * K))).toEqual(Array.from({ length: K }, () => 128))
      expect(Array.from(together.y.subarray(2 * N, 3 * N))).toEqual(Array.from({ length: N }, () => 0))
    })
  )

  it("refuse weights of another width", () => {
    const graph = Graph.make("product")
    const rows = Op.quantizeRows(Graph.input(graph, "x", "float32", ["R", 4]))
    const weight = initializer(graph, "w", new Int8Array(15), [5, 3])
    const scales = Graph.constant(graph, "float32", [3], [1, 1, 1])
    expect(() => Op.matmulQuantized(rows, weight, scales)).toThrow(/MatMulInteger/)
  })
})

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
        const attended = Op.causalAttention(
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
