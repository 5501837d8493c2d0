import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Graph from "../../src/onnx/Graph.ts"
import type { Value } from "../../src/onnx/Graph.ts"
import * as Op from "../../src/onnx/Op.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as Plain from "./Plain.ts"
import { workplace } from "../workplace.ts"

/** The message of the mistake in `build`, made under the label "block 2/attention" of the graph "model". */
const mistake = (build: (graph: Graph.Graph, x: (...shape: Graph.Shape) => Value) => unknown): string => {
  const graph = Graph.make("model")
  let inputs = 0
  const x = (...shape: Graph.Shape) => Graph.input(graph, `x${inputs++}`, "float32", shape)
  try {
    Graph.labelled(graph, "block 2", () => Graph.labelled(graph, "attention", () => build(graph, x)))
  } catch (error) {
    if (error instanceof Graph.GraphError) return error.message
    throw error
  }
  throw new Error("the graph was built")
}

const integers = (graph: Graph.Graph, ...shape: Graph.Shape) => Graph.input(graph, "integers", "int64", shape)

describe("a mistake in a graph", () => {
  it("names operator, place, reason and shapes", () => {
    expect(mistake((_, x) => Op.add(x("B", 3), x(4)))).toBe(
      "Add at model/block 2/attention: the shapes do not broadcast (3 against 4) (inputs: float32[B, 3] x0, float32[4] x1)"
    )
  })

  it("is a symbol against another symbol or a number", () => {
    expect(mistake((_, x) => Op.mul(x("B"), x("T")))).toMatch(/^Mul .*\(B against T\)/)
    expect(mistake((_, x) => Op.mul(x("B"), x(2)))).toMatch(/^Mul .*\(B against 2\)/)
    expect(mistake((_, x) => Op.expandLike(x(4), x(1)))).toMatch(/^Expand .*the first is the larger/)
    expect(mistake((_, x) => Op.expand(x(4), [1]))).toMatch(/^Expand .*larger than \[1\]/)
  })

  it("is a product whose inner sizes differ", () => {
    expect(mistake((_, x) => Op.matmul(x("B", "T", 64), x(32, 8)))).toMatch(
      /^MatMul .*the inner sizes 64 and 32 differ \(inputs: float32\[B, T, 64\] x0, float32\[32, 8\] x1\)$/
    )
    expect(mistake((_, x) => Op.matmul(x(4, 8), x(8, 4), { transB: true }))).toMatch(/inner sizes 8 and 4/)
    expect(mistake((_, x) => Op.matmul(x(8), x(8, 4)))).toMatch(/two axes or more/)
    expect(mistake((_, x) => Op.matmul(x(2, 4, 8), x(3, 8, 4)))).toMatch(/do not broadcast \(2 against 3\)/)
  })

  it("is a wrong dtype", () => {
    expect(mistake((graph, x) => Op.add(x(3), integers(graph, 3)))).toMatch(
      /^Add .*the dtypes differ \(inputs: float32\[3\] x0, int64\[3\] integers\)$/
    )
    expect(mistake((graph) => Op.exp(integers(graph, 3)))).toMatch(/^Exp .*integers must be float32/)
    expect(mistake((_, x) => Op.gather(x(3), x(3)))).toMatch(/^Gather .*x1 must be int64/)
    expect(mistake((_, x) => Op.where(x(3), x(3), x(3)))).toMatch(/^Where .*x0 must be bool/)
    expect(mistake((graph) => Op.sum(integers(graph, 3), [0]))).toMatch(/^ReduceSum .*must be float32/)
  })

  it("is another number of elements, or a size that cannot be derived", () => {
    expect(mistake((_, x) => Op.reshape(x(2, 3), [7]))).toMatch(/^Reshape .*\[7\] has another number of elements/)
    expect(mistake((_, x) => Op.reshape(x("B", 4), ["B", 5]))).toMatch(/^Reshape .*another number of elements/)
    expect(mistake((_, x) => Op.reshape(x("B*T", 4), ["B", "T", 4]))).toMatch(/two sizes to derive/)
  })

  it("is an order of axes that is none", () => {
    for (const perm of [[0], [0, 0], [0, 2], [0, -1]]) {
      expect(mistake((_, x) => Op.transpose(x(2, 3), perm))).toMatch(/^Transpose .*no order of its axes/)
    }
  })

  it("is a part that does not fit", () => {
    expect(mistake((_, x) => Op.concat([x(2, 3), x(2, 4)], 0))).toMatch(/^Concat .*only the joined axis may differ/)
    expect(mistake((_, x) => Op.concat([x(2, 3), x(2)], 0))).toMatch(/^Concat .*only the joined axis may differ/)
    expect(mistake((_, x) => Op.concat([x("A"), x(2)], 0))).toMatch(/^Concat .*the joined size needs a name/)
    expect(mistake((_, x) => Op.split(x(2, 6), 1, [2, 3]))).toMatch(/^Split .*the parts sum to 5 .*\[2, 6\]/)
    expect(mistake((graph, x) => Op.splitBy(x("N"), 0, integers(graph, 2), ["A", "B", "C"]))).toMatch(/3 parts/)
  })

  it("is an axis that is not there", () => {
    expect(mistake((_, x) => Op.sum(x(2, 3), [2]))).toMatch(/^ReduceSum .*there is no axis 2 .*\[2, 3\]/)
    expect(mistake((_, x) => Op.max(x(2, 3), [-3]))).toMatch(/^ReduceMax .*there is no axis -3/)
    expect(mistake((_, x) => Op.split(x(2), 1, [1, 1]))).toMatch(/^Split .*there is no axis 1/)
  })

  it("is an index of the wrong shape", () => {
    expect(mistake((graph, x) => Op.gatherElements(x("N", 5), integers(graph, 3)))).toMatch(/^GatherElements/)
    expect(mistake((graph, x) => Op.gather(x(), integers(graph, 3)))).toMatch(/^Gather .*a scalar has no rows/)
    expect(mistake((graph, x) => Op.scatterAddElements(x(4), integers(graph, 2), x(3)))).toMatch(/^ScatterElements/)
    expect(mistake((graph, x) => Op.scatterAddRows(x(4, 2), integers(graph, 3), x(3, 1)))).toMatch(/^Reshape/)
    expect(mistake((graph, x) => Op.rotary(x(2, 8), integers(graph, 2), x(4, 2), x(4, 2)))).toMatch(/^Rotary/)
    expect(mistake((_, x) => Op.rmsNorm(x("N", 8), x(4), 1e-5))).toMatch(/^RMSNorm .*as wide as the last axis/)
  })

  it("is a value of another graph", () => {
    const other = Graph.input(Graph.make("other"), "far", "float32", [3])
    expect(mistake((_, x) => Op.add(x(3), other))).toMatch(/^Add at model\/block 2.*far belongs to another graph/)
    expect(mistake((graph) => Graph.output(graph, "y", other))).toMatch(/another graph \(other\)/)
  })

  it("is a name that is already used", () => {
    const twice = /the name taken is already used/
    const input = (graph: Graph.Graph) => Graph.input(graph, "taken", "float32", [1])
    const external = (graph: Graph.Graph) =>
      Graph.external(graph, "taken", "float32", [1], { location: "weights", offset: 0, length: 4 })
    const output = (graph: Graph.Graph) => Graph.output(graph, "taken", Graph.scalar(graph, 1))
    for (const first of [input, external, output]) {
      for (const second of [input, external, output]) {
        expect(mistake((graph) => [first(graph), second(graph)])).toMatch(twice)
      }
    }
  })

  it("is a constant with too few numbers", () => {
    expect(mistake((graph) => Graph.constant(graph, "float32", [2, 2], [1, 2, 3]))).toMatch(
      /3 numbers for shape \[2, 2\]/
    )
  })

  it("leaves the place that it was made in", () => {
    const graph = Graph.make("model")
    const x = Graph.input(graph, "x", "float32", [2])
    expect(() => Graph.labelled(graph, "inside", () => Op.sum(x, [5]))).toThrow(/at model\/inside/)
    expect(() => Op.sum(x, [5])).toThrow(/at model:/)
  })
})

describe("constants", () => {
  it("are shared where they are small and equal in dtype, shape and numbers", () => {
    const graph = Graph.make("constants")
    const one = Graph.scalar(graph, 1)
    expect(Graph.scalar(graph, 1)).toBe(one)
    expect(Graph.constant(graph, "float32", [], [1])).toBe(one)
    const others = [
      Graph.scalar(graph, 2),
      Graph.constant(graph, "float32", [1], [1]),
      Graph.constant(graph, "int64", [], [1]),
      Graph.constant(graph, "bool", [], [1]),
      Graph.scalar(graph, 0),
      Graph.scalar(graph, -0)
    ]
    expect(new Set([one, ...others]).size).toBe(7)
    expect(graph.initializers).toHaveLength(7)
  })
})

describe("a graph that is encoded and run", () => {
  it.effect("returns an input that is directly a result, and a value under two names", () =>
    Effect.gen(function* () {
      const graph = Graph.make("names")
      const x = Graph.input(graph, "x", "float32", ["N", 2])
      const doubled = Op.scale(x, 2)
      Graph.output(graph, "same", x)
      Graph.output(graph, "doubled", doubled)
      Graph.output(graph, "twice", doubled)
      Graph.output(graph, "constant", Graph.constant(graph, "int64", [2], [3, -4]))
      const session = yield* Plain.session(graph)
      const operand = Plain.floats([3, 2], [1, 2, 3, 4, 5, 6])
      const results = yield* session.run({ x: Plain.tensor(operand) })
      expect(Object.keys(results)).toEqual(["same", "doubled", "twice", "constant"])
      expect(Plain.plain(results["same"]!).data).toEqual(operand.data)
      expect(Plain.plain(results["doubled"]!)).toEqual({ sizes: [3, 2], data: [2, 4, 6, 8, 10, 12] })
      expect(Plain.plain(results["twice"]!)).toEqual(Plain.plain(results["doubled"]!))
      expect(Plain.plain(results["constant"]!).data).toEqual([3, -4])
    })
  )

  it.effect("returns what others read, too, as it was when they read it", () =>
    Effect.gen(function* () {
      const graph = Graph.make("read on")
      const doubled = Op.scale(Graph.input(graph, "x", "float32", [2]), 2)
      Graph.output(graph, "doubled", doubled)
      Graph.output(graph, "exp", Op.exp(Op.neg(doubled)))
      const session = yield* Plain.session(graph)
      const results = yield* session.run({ x: Session.float32(Float32Array.of(0, 1), [2]) })
      expect(Plain.plain(results["doubled"]!).data).toEqual([0, 2])
      expect(results["exp"]!.data[1]).toBeCloseTo(Math.exp(-2))
    })
  )

  it.effect("computes only what is fetched, for every size of a symbol", () =>
    Effect.gen(function* () {
      const graph = Graph.make("sizes")
      const x = Graph.input(graph, "x", "float32", ["N"])
      Graph.output(graph, "sum", Op.sumAll(x))
      Graph.output(graph, "exp", Op.exp(x))
      const session = yield* Plain.session(graph)
      for (const n of [0, 1, 5]) {
        const results = yield* session.run({ x: Session.float32(new Float32Array(n).fill(1), [n]) }, ["sum"])
        expect(Object.keys(results)).toEqual(["sum"])
        expect(Plain.plain(results["sum"]!)).toEqual({ sizes: [], data: [n] })
      }
    })
  )

  it.effect("reads external tensors out of the middle of a file", () =>
    Effect.gen(function* () {
      const folder = workplace()
      // As in a safetensors file: eight bytes of length, a header, then the tensors one after the other.
      const header = new TextEncoder().encode(`{"w":{"dtype":"F32"}, "b":{"dtype":"F16"}} `)
      const start = 8 + header.length
      const bytes = new Uint8Array(start + 24 + 4)
      new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true)
      bytes.set(header, 8)
      bytes.set(new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer), start)
      // 1.5 and -2 in half precision, little-endian.
      bytes.set([0x00, 0x3e, 0x00, 0xc0], start + 24)
      yield* Effect.promise(() => fs.writeFile(path.join(folder, "model.safetensors"), bytes))

      const graph = Graph.make("external")
      const part = (offset: number, length: number) => ({
        location: "model.safetensors",
        offset: start + offset,
        length
      })
      const w = Graph.external(graph, "w", "float32", [3, 2], part(0, 24))
      const b = Graph.external(graph, "b", "float16", [2], part(24, 4))
      const x = Graph.input(graph, "x", "float32", ["N", 3])
      Graph.output(graph, "y", Op.add(Op.matmul(x, w), Op.cast(b, "float32")))
      const session = yield* Session.make(graph, { folder, threads: 1 })
      const { y } = yield* session.run({ x: Session.float32(Float32Array.of(1, 0, 0, 1, 1, 1), [2, 3]) })
      expect(Plain.plain(y!)).toEqual({ sizes: [2, 2], data: [2.5, 0, 10.5, 10] })
    })
  )
})

describe("a part that is repeated", () => {
  /** Powers of x, each with a column more, and what was added in each repetition. */
  const powers = () => {
    const graph = Graph.make("powers")
    const x = Graph.input(graph, "x", "float32", ["B", 1])
    const outside = Op.scale(x, 3)
    const repeated = Graph.repeat(
      graph,
      Graph.input(graph, "count", "int64", []),
      "K",
      [{ value: x, shape: ["B", "S"] }, { value: x }],
      (step, [row, power]) => {
        const next = Op.mul(power!, x)
        // Nothing here depends on the repetition.
        const steady = Op.exp(outside)
        const added = Op.add(Op.cast(step, "float32"), Op.scale(steady, 0))
        return { carried: [Op.concat([row!, next], 1, "S+1"), next], collected: [added, power!] }
      }
    )
    repeated.carried.forEach((value, i) => Graph.output(graph, `carried${i}`, value))
    repeated.collected.forEach((value, i) => Graph.output(graph, `collected${i}`, value))
    return graph
  }

  it.effect("carries on what may grow, and collects something each time", () =>
    Effect.gen(function* () {
      const session = yield* Plain.session(powers())
      for (const count of [0, 1, 3]) {
        const x = Session.float32(Float32Array.of(2, 3), [2, 1])
        const results = yield* session.run({ x, count: Session.int64([count], []) })
        const columns = (base: number) => Array.from({ length: count + 1 }, (_, i) => base ** (i + 1))
        expect(Plain.plain(results["carried0"]!)).toEqual({
          sizes: [2, count + 1],
          data: [...columns(2), ...columns(3)]
        })
        expect(Plain.plain(results["carried1"]!).data).toEqual([columns(2).at(-1), columns(3).at(-1)])
        if (count === 0) continue
        const steps = Array.from({ length: count }, (_, i) => i)
        expect(Plain.plain(results["collected0"]!).data).toEqual(steps.flatMap((i) => [i, i]))
        expect(Plain.plain(results["collected1"]!).data).toEqual(steps.flatMap((i) => [2 ** (i + 1), 3 ** (i + 1)]))
      }
    })
  )

  it("does not repeat what is the same each time", () => {
    const loop = powers().nodes.find(({ op }) => op === "Loop")!
    const { nodes } = loop.attributes["body"] as Graph.Body
    expect(nodes.map(({ op }) => op).toSorted()).toEqual(["Add", "Cast", "Concat", "Mul"])
  })

  it("is refused where something is not carried on", () => {
    const none = { carried: [], collected: [] }
    expect(mistake((graph, x) => Graph.repeat(graph, integers(graph), "K", [{ value: x(2) }], () => none))).toMatch(
      /^Loop at model\/block 2\/attention: 1 values are to be carried on/
    )
  })
})
