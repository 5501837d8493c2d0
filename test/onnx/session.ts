/** Runs a graph as a program of its own: `node session.ts "in this thread"`, or else in the engine's. */
import { Effect } from "effect"
import type { Scope } from "effect"
import { fileURLToPath } from "node:url"
import * as EngineWorker from "../../src/engine/EngineWorker.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Op from "../../src/onnx/Op.ts"
import * as Session from "../../src/onnx/Session.ts"

const here = Effect.gen(function* () {
  const graph = Graph.make("negative")
  Graph.output(graph, "y", Op.neg(Graph.input(graph, "x", "float32", ["N"])))
  const session = yield* Session.make(graph)
  yield* session.run({ x: Session.float32(Float32Array.of(1, 2), [2]) })
})

const there = Effect.gen(function* () {
  const client = yield* EngineWorker.client({ dir: fileURLToPath(new URL("../../assets/sandbox", import.meta.url)) })
  yield* client.Logprobs({ ids: [1, 2, 3], from: 1, adapter: null })
})

const run = (self: Effect.Effect<void, unknown, Scope.Scope>) => Effect.runPromise(Effect.scoped(self))
await run(process.argv[2] === "in this thread" ? here : there)
