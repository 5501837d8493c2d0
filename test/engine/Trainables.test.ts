import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Trainables from "../../src/engine/Trainables.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Op from "../../src/onnx/Op.ts"
import * as Plain from "../onnx/Plain.ts"

describe("the vector of what is trained", () => {
  it("has the parameters of a group side by side, in the order of the groups", () => {
    const of = Trainables.layout([
      { name: "a", shape: [2, 3], group: "policy" },
      { name: "b", shape: [4], group: "value" },
      { name: "c", shape: [1], group: "policy" }
    ])
    expect(of.entries.map(({ name, offset, size }) => [name, offset, size])).toEqual([
      ["a", 0, 6],
      ["c", 6, 1],
      ["b", 7, 4]
    ])
    expect(of.groups).toEqual([
      { name: "policy", size: 7 },
      { name: "value", size: 4 }
    ])
    expect(of.size).toBe(11)
  })

  it("is cut into few stretches, and a large parameter is one of its own", () => {
    const of = Trainables.layout(
      [[2, 3], [5], [512, 512], [4], [2 ** 18 - 1], [1024, 1024], [1]].map((shape, i) => ({
        name: `p${i}`,
        shape,
        group: "all"
      }))
    )
    const stretches = Trainables.stretches(of)
    expect(stretches.map(({ entries }) => entries.map(({ name }) => name))).toEqual([
      ["p0", "p1"],
      ["p2"],
      ["p3", "p4"],
      ["p5"],
      ["p6"]
    ])
    expect(stretches.map(({ offset, size }) => [offset, offset + size])).toEqual([
      [0, 11],
      [11, 262_155],
      [262_155, 524_302],
      [524_302, 1_572_878],
      [1_572_878, 1_572_879]
    ])
    // As many small ones as make a stretch of 2 ** 22 numbers at most.
    const small = Array.from({ length: 100 }, (_, i) => ({ name: `p${i}`, shape: [2 ** 17], group: "all" }))
    const sizes = Trainables.stretches(Trainables.layout(small)).map(({ entries }) => entries.length)
    expect(sizes).toEqual([32, 32, 32, 4])
  })

  for (const [name, shapes] of [
    ["sizes with a common divisor", [[4, 6], [12], [2, 3]]],
    ["sizes without one", [[5], [3, 3], [1, 7]]],
    ["a single parameter", [[3, 5]]],
    ["small ones around a large one", [[3], [5, 2], [512, 512], [2, 2], [7]]]
  ] as const) {
    it.effect(`is cut into its parameters and joined again, in place: ${name}`, () =>
      Effect.gen(function* () {
        const of = Trainables.layout(shapes.map((shape, i) => ({ name: `p${i}`, shape, group: "all" })))
        const graph = Graph.make("sums")
        const parts = Trainables.cut(of, Trainables.inputs(graph, of, "vector"))
        expect([...parts.values()].map(({ shape }) => shape)).toEqual(shapes)
        const doubled = Trainables.join(of, (part) => Op.scale(parts.get(part)!, 2))
        const before = Trainables.inputs(graph, of, "sums")
        const added = doubled.map((x, i) => Op.add(x, before[i]!))
        Trainables.outputs(graph, "more", added)
        const session = yield* Plain.session(graph)
        const vector = Float32Array.from({ length: of.size }, (_, i) => i)
        const sums = new Float32Array(of.size).fill(0.5)
        for (let run = 0; run < 3; run++) {
          const fed = { ...Trainables.tensors(of, vector, "vector"), ...Trainables.tensors(of, sums, "sums") }
          yield* session.run(fed, Trainables.tensors(of, sums, "more"))
        }
        expect(sums.every((x, i) => x === 6 * i + 0.5)).toBe(true)
        expect(vector.every((x, i) => x === i)).toBe(true)
      })
    )
  }
})
