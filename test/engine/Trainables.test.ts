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

  it.effect("is fed where it lies, and results may be written into another in place", () =>
    Effect.gen(function* () {
      const shapes = [[4, 6], [5], [2, 3]]
      const of = Trainables.layout(shapes.map((shape, i) => ({ name: `p${i}`, shape, group: "all" })))
      const graph = Graph.make("sums")
      const before = Trainables.inputs(graph, of, (name) => `${name} before`)
      for (const [name, value] of Trainables.inputs(graph, of)) {
        Graph.output(graph, `${name} after`, Op.add(before.get(name)!, value))
      }
      const session = yield* Plain.session(graph)
      const vector = Float32Array.from({ length: of.size }, (_, i) => i)
      const sums = new Float32Array(of.size).fill(0.5)
      const into = Trainables.feeds(of, sums, (name) => `${name} after`)
      for (let run = 0; run < 3; run++) {
        yield* session.run(
          { ...Trainables.feeds(of, vector), ...Trainables.feeds(of, sums, (name) => `${name} before`) },
          into
        )
      }
      expect(into["p0 after"]!.dims).toEqual([4, 6])
      expect(Array.from(sums)).toEqual(Array.from(vector, (x) => 3 * x + 0.5))
      expect(Array.from(vector)).toEqual(Array.from({ length: of.size }, (_, i) => i))
    })
  )
})
