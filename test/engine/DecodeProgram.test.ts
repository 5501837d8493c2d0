import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { greedy } from "../../src/engine/DecodeJob.ts"
import * as DecodeProgram from "../../src/engine/DecodeProgram.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as Random from "../../src/Random.ts"

/** Tokens and their probabilities for rows of 16 logits, which the graph looks at in blocks of 4. */
const sample = Effect.fnUntraced(function* (
  logits: ReadonlyArray<ReadonlyArray<number>>,
  uniform: ReadonlyArray<number>,
  inverseTemperature = 1
) {
  const graph = Graph.make("sample")
  const inputs = (name: string, width: number) => Graph.input(graph, name, "float32", ["N", width])
  const drawn = DecodeProgram.sample(inputs("logits", 16), inputs("inverse", 1), inputs("uniform", 1))
  Graph.output(graph, "token", drawn.token)
  Graph.output(graph, "probability", drawn.probability)
  const session = yield* Session.make(graph)
  const N = logits.length
  const results = yield* session.run({
    logits: Session.float32(Float32Array.from(logits.flat()), [N, 16]),
    inverse: Session.float32(new Float32Array(N).fill(inverseTemperature), [N, 1]),
    uniform: Session.float32(Float32Array.from(uniform), [N, 1])
  })
  return {
    tokens: Array.from(results["token"]!.data as BigInt64Array, Number),
    probabilities: Array.from(results["probability"]!.data as Float32Array)
  }
}, Effect.scoped)

describe("a token drawn in the graph", () => {
  it.effect("is never one without a probability, also where a uniform number falls between two blocks", () =>
    Effect.gen(function* () {
      const random = Random.make(1, "blocks")
      const rows: Array<Array<number>> = []
      const uniforms: Array<number> = []
      for (let i = 0; i < 400; i++) {
        // The last of each block alone can be drawn.
        const row = Array.from({ length: 16 }, (_, t) => (t % 4 === 3 ? 3 * random.normal() : -1000))
        const weights = row.map((x) => Math.exp(x))
        const total = weights.reduce((a, b) => a + b)
        let sum = 0
        for (const end of [3, 7, 11]) {
          sum += weights[end]! / total
          for (let step = -4; step <= 4; step++) {
            rows.push(row)
            uniforms.push(sum + step * 2 ** -25)
          }
        }
      }
      const { probabilities, tokens } = yield* sample(rows, uniforms)
      expect(tokens.filter((token) => token % 4 !== 3)).toEqual([])
      expect(probabilities.filter((p) => !(p > 0))).toEqual([])
    })
  )

  it.effect("is the likeliest where it is to be, and of equally likely ones the first", () =>
    Effect.gen(function* () {
      const random = Random.make(2, "greedy")
      const above = (x: number) => {
        const bits = new Int32Array(Float32Array.of(x).buffer)
        bits[0]! += x > 0 ? 1 : -1
        return new Float32Array(bits.buffer)[0]!
      }
      const rows: Array<Array<number>> = []
      for (let i = 0; i < 400; i++) {
        const scale = [1e-3, 1, 30, 1e4][i % 4]!
        const row = Array.from({ length: 16 }, () => Math.fround(scale * random.normal()))
        const [a, b] = [random.int(16), random.int(16)]
        const most = Math.max(...row)
        row[a] = most
        // As likely, or the next number above.
        row[b] = i % 2 === 0 ? most : above(most)
        rows.push(row)
      }
      const uniform = rows.map(() => greedy.uniform)
      const { probabilities, tokens } = yield* sample(rows, uniform, greedy.inverseTemperature)
      expect(tokens).toEqual(rows.map((row) => row.indexOf(Math.max(...row))))
      expect(probabilities.every((p) => p > 0)).toBe(true)
    })
  )
})
