import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Layout from "../../src/engine/Layout.ts"
import * as Ragged from "../../src/model/Ragged.ts"
import * as Gradient from "../../src/onnx/Gradient.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import type { Value } from "../../src/onnx/Graph.ts"
import * as Op from "../../src/onnx/Op.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as Plain from "../onnx/Plain.ts"

const [d, scale] = [4, 0.3]

const numbers = (length: number, seed: number) => Plain.numbers(length, seed, 3)

interface Inputs {
  readonly q: Value
  readonly k: Value
  readonly v: Value
}

/** Attention of one sequence whose tokens stand at `at`, head by head, for its tokens from `from` on: [n, heads·d]. */
const plain = ({ k, q, v }: Inputs, heads: number, kvHeads: number, at: ReadonlyArray<number>, from: number): Value => {
  const { graph } = q
  const places = (of: ReadonlyArray<number>) =>
    Graph.constant(
      graph,
      "int64",
      [of.length],
      of.map((i) => i)
    )
  const headsOf = (x: Value, count: number, of: ReadonlyArray<number>) =>
    Op.split(
      Op.gather(Op.reshape(x, ["T", count * d]), places(of)),
      1,
      Array.from({ length: count }, () => d)
    )
  const own = at.slice(from)
  const mask = Float32Array.from({ length: own.length * at.length }, (_, i) =>
    i % at.length <= from + Math.floor(i / at.length) ? 0 : -1e9
  )
  const unseen = Graph.constant(graph, "float32", [own.length, at.length], mask)
  const [queries, keys, values] = [headsOf(q, heads, own), headsOf(k, kvHeads, at), headsOf(v, kvHeads, at)]
  const mixed = queries.map((query, h) => {
    const group = Math.floor(h / (heads / kvHeads))
    const scores = Op.add(Op.matmul(query, keys[group]!, { transB: true, alpha: scale }), unseen)
    return Op.matmul(Op.softmax(scores), values[group]!)
  })
  return Op.concat(mixed, 1)
}

/** What `build` makes of queries, keys and values, summed with factors, and its gradients. */
const evaluate = (
  T: number,
  heads: number,
  kvHeads: number,
  feeds: Session.Feeds,
  build: (graph: Graph.Graph, inputs: Inputs, factors: Value) => Value
) =>
  Effect.gen(function* () {
    const graph = Graph.make("attention")
    const input = (name: string, width: number) => Graph.input(graph, name, "float32", ["T", 1, width])
    const inputs = { q: input("q", heads * d), k: input("k", kvHeads * d), v: input("v", kvHeads * d) }
    const loss = build(graph, inputs, input("factors", heads * d))
    Graph.output(graph, "loss", loss)
    Gradient.gradients(loss, Object.values(inputs)).forEach((x, i) => Graph.output(graph, `gradient${i}`, x))
    const session = yield* Session.make(graph)
    const fed = (count: number, seed: number) => Session.float32(numbers(T * count * d, seed), [T, 1, count * d])
    const results = yield* session.run({
      ...feeds,
      q: fed(heads, 1),
      k: fed(kvHeads, 2),
      v: fed(kvHeads, 3),
      factors: fed(heads, 4)
    })
    return ["loss", "gradient0", "gradient1", "gradient2"].map((name) => Array.from(Session.floats(results[name]!)))
  })

describe("attention in rows", () => {
  const alone = [[5], [7, 8, 9, 10, 11], [6, 6], [1, 2, 3]]
  const family = [
    [7, 8, 9, 1],
    [7, 8, 9, 2, 3, 4, 5],
    [7, 8, 9, 2, 3]
  ]
  const sequences = [...alone, ...family]
  const cases = [
    { name: "sequences apart", layout: Layout.apart(sequences), shared: sequences.map(() => 0) },
    { name: "a single token", layout: Layout.apart([[5]]), shared: [0], of: [[5]] },
    {
      name: "sequences that share beginnings",
      layout: Layout.make(sequences, [[0], [1], [2], [3], [4, 5, 6]]),
      shared: [0, 0, 0, 0, 0, 3, 3]
    }
  ]
  for (const { layout, name, of = sequences, shared } of cases) {
    for (const [heads, kvHeads] of [
      [4, 2],
      [3, 3]
    ] as const) {
      it.live(`of ${name}, ${heads} heads over ${kvHeads}, is that of each sequence, and so are its gradients`, () =>
        Effect.gen(function* () {
          const { ids, seen, ...feeds } = layout.feeds()
          const { positions: _, ...rows } = feeds
          const shares = Layout.shares(rows)
          const T = ids!.dims[0]!
          const inRows = yield* evaluate(T, heads, kvHeads, { ...rows, seen: seen! }, (graph, { k, q, v }, factors) => {
            const attention = Ragged.attention(Ragged.inputs(graph, shares), { heads, kvHeads, attentionScale: scale })
            const mask = Graph.input(graph, "seen", "float32", ["S", 1, "L", shares ? "K" : "L"])
            const stacked = attention
              .masks(mask)
              .map((part, i) => (heads === kvHeads ? part : Op.concat([part, part], 2, `${heads / kvHeads}*L${i}`)))
            const mixed = Op.reshape(attention.mixed(q, k, v, stacked), ["T", heads * d])
            // The token that fills rows up is nobody's.
            const real = Graph.constant(
              graph,
              "int64",
              [layout.tokens],
              Array.from({ length: layout.tokens }, (_, i) => i)
            )
            return Op.sumAll(Op.mul(Op.gather(mixed, real), Op.gather(Op.reshape(factors, ["T", heads * d]), real)))
          })
          const apart = yield* evaluate(T, heads, kvHeads, {}, (graph, inputs, factors) =>
            of
              .map((sequence, s) => {
                const at = sequence.map((_, t) => layout.at(s, t))
                const own = at.slice(shared[s]!)
                const places = Graph.constant(graph, "int64", [own.length], own)
                const weights = Op.gather(Op.reshape(factors, ["T", heads * d]), places)
                return Op.sumAll(Op.mul(plain(inputs, heads, kvHeads, at, shared[s]!), weights))
              })
              .reduce((a, b) => Op.add(a, b))
          )
          inRows.forEach((values, i) => {
            expect(values.length).toBe(apart[i]!.length)
            values.forEach((x, j) => expect(Math.abs(x - apart[i]![j]!)).toBeLessThan(2e-5 * (1 + Math.abs(x))))
          })
        })
      )
    }
  }
})
