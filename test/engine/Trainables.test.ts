import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Trainables from "../../src/engine/Trainables.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Op from "../../src/onnx/Op.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as Plain from "../onnx/Plain.ts"

describe("the vector of what is trained", () => {
  for (const [name, shapes] of [
    ["sizes with a common divisor", [[4, 6], [12], [2, 3]]],
    ["sizes without one", [[5], [3, 3], [1, 7]]],
    ["a single parameter", [[3, 5]]]
  ] as const) {
    it.effect(`is cut into its parameters and joined again: ${name}`, () =>
      Effect.gen(function* () {
        const of = Trainables.layout(shapes.map((shape, i) => ({ name: `p${i}`, shape, group: "all" })))
        const graph = Graph.make("parts")
        const parts = Trainables.values(of, Trainables.input(graph, of, "vector"))
        for (const [part, value] of parts) Graph.output(graph, part, Op.scale(value, 1))
        const joined = Trainables.flatten(
          of,
          Array.from(parts.values(), (value) => Op.scale(value, 2))
        )
        Graph.output(graph, "joined", joined)
        const session = yield* Plain.session(graph)
        const vector = Float32Array.from({ length: of.size }, (_, i) => i)
        const results = yield* session.run({ vector: Session.float32(vector, [of.size]) })
        for (const [part, view] of Trainables.views(of, vector)) {
          expect(Array.from(Session.floats(results[part]!))).toEqual(Array.from(view))
        }
        expect(shapes.map((_, i) => results[`p${i}`]!.dims)).toEqual(shapes)
        expect(results["joined"]!.dims).toEqual([of.size])
        expect(Array.from(Session.floats(results["joined"]!))).toEqual(Array.from(vector, (x) => 2 * x))
      })
    )
  }
})
