import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Program from "../../src/engine/Program.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Transformer from "../../src/model/Transformer.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as Golden from "../engine/golden.ts"

type Model = (typeof Golden.models)[number]

/** A compiled network from rows of one length, their positions and a mask [T, T] or [B, 1, T, T] to hidden states. */
const network = Effect.fnUntraced(function* (model: Model, rank: 2 | 4) {
  const checkpoint = yield* Checkpoint.open(Golden.folderOf(model))
  const graph = Graph.make("hidden")
  const input: Transformer.Input = {
    ids: Graph.input(graph, "ids", "int64", ["B", "T"]),
    positions: Graph.input(graph, "positions", "int64", ["B", "T"]),
    mask: Graph.input(graph, "mask", "float32", rank === 2 ? ["T", "T"] : ["B", 1, "T", "T"])
  }
  const nothing = { values: new Map(), scales: new Map() }
  const { config, parameters } = Program.network(graph, checkpoint, nothing, "merged")
  Graph.output(graph, "hidden", Transformer.build(config, parameters, input, config.maxPositions).hidden())
  const session = yield* Session.make(graph, { folder: Program.weightsFolder })
  return Effect.fnUntraced(function* (
    ids: ReadonlyArray<number>,
    positions: ReadonlyArray<number>,
    mask: Float32Array
  ) {
    const T = ids.length
    const results = yield* session.run({
      ids: Session.int64(ids, [1, T]),
      positions: Session.int64(positions, [1, T]),
      mask: Session.float32(mask, rank === 2 ? [T, T] : [1, 1, T, T])
    })
    const hidden = Session.floats(results["hidden"]!)
    return Array.from(ids, (_, t) => hidden.slice(t * config.hiddenSize, (t + 1) * config.hiddenSize))
  })
})

const counting = (n: number) => Array.from({ length: n }, (_, i) => i)
const tokens = (n: number, seed: number) => counting(n).map((t) => 3 + ((seed * 31 + t * 17) % 60))

describe("a network", () => {
  it.effect("with windows of 8 in two layers sees 15 tokens, and no token before them", () =>
    Effect.gen(function* () {
      const run = yield* network("mistral", 2)
      const length = 24
      const ids = tokens(length, 1)
      const last = (changed: number) =>
        Effect.map(
          run(ids.with(changed, 40), counting(length), Program.causalMask(length)),
          (hidden) => hidden[length - 1]!
        )
      const before = (yield* run(ids, counting(length), Program.causalMask(length)))[length - 1]!
      expect(Golden.distance(yield* last(length - 16), before)).toBe(0)
      expect(Golden.distance(yield* last(length - 15), before)).toBeGreaterThan(1e-6)
    })
  )

  // Windows, layers without rotary positions, and a network of neither.
  for (const model of ["mistral", "smollm3", "olmo2", "gemma3"] as const) {
    it.effect(`computes two sequences in one row as it does each alone, if the mask keeps them apart: ${model}`, () =>
      Effect.gen(function* () {
        const alone = yield* network(model, 2)
        const packed = yield* network(model, 4)
        const [first, second] = [tokens(13, 2), tokens(11, 3)]
        const length = first.length + second.length
        const mask = Program.causalMask(length)
        for (let q = first.length; q < length; q++) {
          mask.fill(Transformer.masked, q * length, q * length + first.length)
        }
        const together = yield* packed(
          [...first, ...second],
          [...counting(first.length), ...counting(second.length)],
          mask
        )
        const apart = [
          ...(yield* alone(first, counting(first.length), Program.causalMask(first.length))),
          ...(yield* alone(second, counting(second.length), Program.causalMask(second.length)))
        ]
        together.forEach((hidden, t) => expect(Golden.distance(hidden, apart[t]!)).toBeLessThan(1e-5))
      })
    )
  }
})
