/**
 * EngineWorker: an engine in a worker thread, the default: ONNX Runtime blocks the thread that it runs on.
 *
 * This file is both ends: imported, it gives the client; started as a worker, it serves the handlers of `Engine.ts`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeWorker from "@effect/platform-node/NodeWorker"
import * as NodeWorkerRunner from "@effect/platform-node/NodeWorkerRunner"
import { Effect, Layer } from "effect"
import type { Scope } from "effect"
import { RpcClient, RpcServer } from "effect/rpc"
import type { RpcClientError } from "effect/rpc"
import { fileURLToPath } from "node:url"
import * as worker from "node:worker_threads"
import * as Engine from "./Engine.ts"
import { EngineRpc } from "./EngineRpc.ts"
import * as Turn from "./Turn.ts"

/** A client of an engine. */
export type Client = RpcClient.FromGroup<typeof EngineRpc, RpcClientError.RpcClientError>

/** Starts an engine in a worker thread of its own; the thread ends with the scope. */
export const client = (options: Engine.Options): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Layer.build(
      RpcClient.layerProtocolWorker({ size: 1, concurrency: Number.MAX_SAFE_INTEGER }).pipe(
        Layer.provide(NodeWorker.layer(() => start(options))),
        Layer.orDie
      )
    )
    return yield* Effect.provide(RpcClient.make(EngineRpc, { disableTracing: true }), context)
  })

/**
 * The thread. It ends by itself when it is told to, after the native run that it is in: torn out of native code, the
 * runtime's binding would end the whole process with an abort, so whoever wants to terminate it waits for its end.
 */
const start = (options: Engine.Options): worker.Worker => {
  const thread = new worker.Worker(fileURLToPath(import.meta.url), { workerData: { charterEngine: options } })
  const ended = new Promise<number>((resolve) => thread.once("exit", resolve))
  thread.terminate = () => ended
  const on = thread.on.bind(thread)
  // Answers of a whole batch arrive together, and whoever asked goes on in the turn in which they are told.
  thread.on = (event: string, listener: (...args: Array<any>) => void) =>
    on(event, event === "message" ? Turn.spread(listener) : listener)
  return thread
}

const started = worker.workerData as { readonly charterEngine?: Engine.Options } | null
if (!worker.isMainThread && started?.charterEngine !== undefined) {
  RpcServer.layer(EngineRpc, { disableTracing: true, concurrency: "unbounded" }).pipe(
    Layer.provide(Engine.layer(started.charterEngine)),
    Layer.provide(RpcServer.layerProtocolWorkerRunner),
    Layer.provide(NodeWorkerRunner.layer),
    Layer.launch,
    NodeRuntime.runMain
  )
}
