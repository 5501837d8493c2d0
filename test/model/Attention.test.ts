import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import * as Attention from "../../src/model/Attention.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as Plain from "../onnx/Plain.ts"

const [d, scale] = [6, 0.4]
const tiny = path.join(fileURLToPath(new URL("../fixtures", import.meta.url)), "tiny-llama")

const numbers = (length: number, seed: number) => Plain.numbers(length, seed, 3)

/** New tokens of rows that attend over a past, numbers as they lie: q [B, T, heads·d], keys [B, kvHeads, M, d], … */
interface Rows {
  readonly B: number
  readonly T: number
  readonly M: number
  readonly q: Float32Array
  readonly k: Float32Array
  readonly v: Float32Array
  readonly keys: Float32Array
  readonly values: Float32Array
  /** Tokens of each row's past. */
  readonly held: ReadonlyArray<number>
}

const rowsOf = (heads: number, kvHeads: number, T: number, M: number, held: ReadonlyArray<number>): Rows => {
  const B = held.length
  const made = (count: number, seed: number) => numbers(B * count * d, seed)
  return {
    ...{ B, T, M, held },
    q: made(T * heads, 1),
    k: made(T * kvHeads, 2),
    v: made(T * kvHeads, 3),
    keys: made(M * kvHeads, 4),
    values: made(M * kvHeads, 5)
  }
}

/** One of the rows by itself. */
const alone = (rows: Rows, row: number): Rows => {
  const own = (x: Float32Array) => x.slice((row * x.length) / rows.B, ((row + 1) * x.length) / rows.B)
  const { k, keys, q, v, values } = rows
  return {
    ...rows,
    B: 1,
    held: [rows.held[row]!],
    q: own(q),
    k: own(k),
    v: own(v),
    keys: own(keys),
    values: own(values)
  }
}

/** What the tokens make of each other and of the past: [B, T, heads·d]. */
const mixed = Effect.fnUntraced(function* (heads: number, kvHeads: number, inputs: ReadonlyArray<Rows>) {
  const { config } = yield* Checkpoint.open(tiny)
  const graph = Graph.make("attention")
  const input = (name: string, shape: Graph.Shape) => Graph.input(graph, name, "float32", shape)
  const attend = Attention.make(
    { ...config, heads, kvHeads, headDim: d, attentionScale: scale },
    {
      ids: Graph.input(graph, "ids", "int64", ["B", "T"]),
      positions: Graph.input(graph, "positions", "int64", ["B", "T"]),
      mask: input("causal", ["T", "T"]),
      past: {
        keys: [input("keys", ["B", kvHeads, "M", d])],
        values: [input("values", ["B", kvHeads, "M", d])],
        mask: input("past_mask", ["B", 1, 1, "M"]),
        sizes: Graph.input(graph, "sizes", "int64", [2])
      }
    }
  )
  const [q, k, v] = [input("q", ["B", "T", heads * d]), ...["k", "v"].map((n) => input(n, ["B", "T", kvHeads * d]))]
  Graph.output(graph, "mixed", attend(0, q!, k!, v!).mixed)
  const session = yield* Session.make(graph)
  return yield* Effect.forEach(inputs, ({ B, M, T, held, k, keys, q, v, values }) => {
    const causal = Float32Array.from({ length: T * T }, (_, i) => (i % T <= Math.floor(i / T) ? 0 : Attention.masked))
    const unseen = held.flatMap((count) => Array.from({ length: M }, (_, m) => (m < count ? 0 : Attention.masked)))
    const feeds = {
      ids: Session.int64(Array<number>(B * T).fill(0), [B, T]),
      positions: Session.int64(Array<number>(B * T).fill(0), [B, T]),
      causal: Session.float32(causal, [T, T]),
      past_mask: Session.float32(Float32Array.from(unseen), [B, 1, 1, M]),
      sizes: Session.int64([M, T], [2]),
      keys: Session.float32(keys, [B, kvHeads, M, d]),
      values: Session.float32(values, [B, kvHeads, M, d]),
      q: Session.float32(q, [B, T, heads * d]),
      k: Session.float32(k, [B, T, kvHeads * d]),
      v: Session.float32(v, [B, T, kvHeads * d])
    }
    return Effect.map(session.run(feeds), (results) => Array.from(Session.floats(results["mixed"]!)))
  })
}, Effect.scoped)

/** The same, number by number. */
const plain = (heads: number, kvHeads: number, { B, M, T, held, k, keys, q, v, values }: Rows): Array<number> => {
  const result: Array<number> = []
  for (let b = 0; b < B; b++) {
    for (let t = 0; t < T; t++) {
      for (let h = 0; h < heads; h++) {
        const group = Math.floor(h / (heads / kvHeads))
        const vector = (x: Float32Array, from: number) => Array.from(x.subarray(from * d, (from + 1) * d))
        const seen = [
          ...Array.from({ length: held[b]! }, (_, m) => [keys, values, (b * kvHeads + group) * M + m] as const),
          ...Array.from({ length: t + 1 }, (_, s) => [k, v, (b * T + s) * kvHeads + group] as const)
        ]
        const query = vector(q, (b * T + t) * heads + h)
        const weights = seen.map(([x, , at]) =>
          Math.exp(scale * vector(x, at).reduce((sum, y, i) => sum + y * query[i]!, 0))
        )
        const total = weights.reduce((a, b) => a + b)
        for (let i = 0; i < d; i++) {
          result.push(seen.reduce((sum, [, x, at], j) => sum + (weights[j]! / total) * x[at * d + i]!, 0))
        }
      }
    }
  }
  return result
}

describe("attention over a past", () => {
  const groups = [
    [8, 1],
    [8, 2],
    [6, 3],
    [3, 3]
  ] as const
  it.effect.each(groups)(
    "of %i heads over %i is that of each head, and of a row alone to the last bit",
    ([heads, kvHeads]) =>
      Effect.gen(function* () {
        const cases = [
          rowsOf(heads, kvHeads, 1, 37, [37, 5, 0]),
          rowsOf(heads, kvHeads, 3, 20, [20, 7]),
          rowsOf(heads, kvHeads, 1, 0, [0, 0]),
          rowsOf(heads, kvHeads, 4, 0, [0])
        ]
        for (const rows of cases) {
          const each = rows.held.map((_, row) => alone(rows, row))
          const [together, ...apart] = yield* mixed(heads, kvHeads, [rows, ...each])
          plain(heads, kvHeads, rows).forEach((x, i) => expect(Math.abs(together![i]! - x)).toBeLessThan(1e-5))
          expect(together).toEqual(apart.flat())
        }
      })
  )
})
