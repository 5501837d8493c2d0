/**
 * Calibration: how large the inputs of a network's linear maps become, seen in one run over random tokens.
 *
 * Which channels are large is a matter of the network more than of its text: on random tokens the factors made of them
 * (see `model/Smoothing.ts`) are nearly as good as on sentences, and nobody has to bring a text.
 */
import { Effect } from "effect"
import type { Checkpoint } from "../model/Checkpoint.ts"
import type { Activations } from "../model/Quantized.ts"
import * as Transformer from "../model/Transformer.ts"
import * as Graph from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import * as Session from "../onnx/Session.ts"
import * as Random from "../Random.ts"
import * as Program from "./Program.ts"

const [rows, columns] = [8, 64]

/** The largest magnitude of each channel of the inputs of all linear maps, in fp32. */
export const activations = Effect.fn("Calibration.activations")(function* (
  checkpoint: Checkpoint
): Effect.fn.Return<Activations, Session.SessionError> {
  const { config } = checkpoint
  const graph = Graph.make("calibration")
  const inputs = new Map<string, Graph.Value>()
  const { parameters } = Program.network(graph, checkpoint, { values: new Map(), scales: new Map() }, "merged")
  const observe = (path: string, x: Graph.Value) => inputs.set(path, x)
  const network = Transformer.build(config, { ...parameters, observe }, Program.tokenInputs(graph), config.maxPositions)
  network.hidden()
  for (const [path, x] of inputs) Graph.output(graph, path, Op.max(Op.abs(x), [0, 1]))
  const random = Random.make("calibration")
  const length = Math.min(columns, config.maxPositions)
  const tokens = Array.from({ length: rows }, () => Array.from({ length }, () => random.int(config.vocabSize)))
  // Weights stay in their files: what is to be made small may be larger than the memory.
  const session = Session.make(graph, { folder: Program.weightsFolder, weights: "mapped" })
  const results = yield* Effect.scoped(Effect.flatMap(session, ({ run }) => run(Program.tokenFeeds(tokens))))
  return new Map([...inputs.keys()].map((path) => [path, Session.floats(results[path]!)]))
})
