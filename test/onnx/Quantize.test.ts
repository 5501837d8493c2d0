import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import { quantize } from "../../src/model/Quantized.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Op from "../../src/onnx/Op.ts"
import * as Quantize from "../../src/onnx/Quantize.ts"
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
  const input = Graph.input(graph, "x", "float32", split === 1 ? ["R", K] : ["S", "R", K])
  const scales = Graph.constant(graph, "float32", [N], scale)
  Graph.output(graph, "y", Quantize.matmul(input, initializer(graph, "w", weight, [K, N]), scales))
  Graph.output(graph, "codes", Op.cast(Quantize.rows(input).codes, "float32"))
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
    const x = Graph.input(graph, "x", "float32", ["R", 4])
    const weight = initializer(graph, "w", new Int8Array(15), [5, 3])
    const scales = Graph.constant(graph, "float32", [3], [1, 1, 1])
    expect(() => Quantize.matmul(x, weight, scales)).toThrow(/MatMulInteger/)
  })
})

/** Softmax of numbers [rows, V] by w [V, H], both in 8 bits; undefined where V is not cut into blocks. */
const mixture = Effect.fnUntraced(function* (logits: Float32Array, w: Float32Array, V: number, H: number) {
  const graph = Graph.make("mixture")
  const { scale, weight } = quantize(w, V, H)
  const probabilities = Op.softmax(Graph.input(graph, "logits", "float32", ["N", V]))
  const scales = Graph.constant(graph, "float32", [V], scale)
  const mixed = Quantize.mixture(probabilities, initializer(graph, "w", weight, [H, V]), scales)
  if (mixed === undefined) return undefined
  Graph.output(graph, "mixed", mixed)
  Graph.output(graph, "probabilities", probabilities)
  const session = yield* Session.make(graph)
  const results = yield* session.run({ logits: Session.float32(logits, [logits.length / V, V]) })
  return { mixed: Session.floats(results["mixed"]!), probabilities: Session.floats(results["probabilities"]!) }
}, Effect.scoped)

describe("mixtures of rows in 8 bits", () => {
  it.effect("keep the many small probabilities beside a few large ones", () =>
    Effect.gen(function* () {
      // Two blocks. Some rows have nearly all on one token, and a tail below a step of it. All weights are 1, so that
      // what comes out is the mass that was kept.
      const [rows, V, H] = [12, 2000, 3]
      const logits = numbers(rows * V, 5).map((x, i) => (i % V === 700 ? 9 + i / V : x / 3))
      const ones = yield* mixture(logits, new Float32Array(V * H).fill(1), V, H)
      for (const mass of ones!.mixed) expect(Math.abs(mass - 1)).toBeLessThan(0.01)
      const tails = Array.from({ length: rows }, (_, r) => 1 - ones!.probabilities[r * V + 700]!)
      const mean = (x: ArrayLike<number>) => Array.from(x).reduce((a, b) => a + b, 0) / x.length
      // Rounded to the nearest code, the tail of the large token's block would be lost: half of it all.
      expect(Math.abs(mean(ones!.mixed) - 1)).toBeLessThan(0.05 * mean(tails))
    })
  )

  it.effect("are those of floats but for the rounding of both sides", () =>
    Effect.gen(function* () {
      const [rows, V, H] = [4, 1500, 5]
      const w = numbers(V * H, 3)
      const { mixed, probabilities } = (yield* mixture(numbers(rows * V, 1), w, V, H))!
      const exact = mixed.map((_, i) => {
        const [r, h] = [Math.floor(i / H), i % H]
        let sum = 0
        for (let v = 0; v < V; v++) sum += probabilities[r * V + v]! * w[v * H + h]!
        return sum
      })
      mixed.forEach((x, i) => expect(Math.abs(x - exact[i]!)).toBeLessThan(0.02))
    })
  )

  it.effect("are left to floats where the vocabulary has no fit divisor", () =>
    Effect.gen(function* () {
      const prime = 5003
      expect(yield* mixture(numbers(prime, 1), numbers(prime, 2), prime, 1)).toBeUndefined()
    })
  )
})
