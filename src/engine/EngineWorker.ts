/**
 * EngineWorker: an engine in a worker thread, the default: ONNX Runtime blocks the thread that it runs on.
 *
 * This file is both ends: imported, it gives the client; started as a worker, it serves the handlers of `Engine.ts`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeWorker from "@effect/platform-node/NodeWorker"
import * as NodeWorkerRunner from "@effect/platform-node/NodeWorkerRunner"
import { Cause, Context, Effect, Exit, Layer, Logger, Stream } from "effect"
import type { Scope } from "effect"
import { RpcClient, RpcClientError, RpcServer } from "effect/rpc"
import * as worker from "node:worker_threads"
import * as Engine from "./Engine.ts"
import { EngineRpc } from "./EngineRpc.ts"
import type { EngineError } from "./EngineRpc.ts"
import * as Turn from "./Turn.ts"

type Asked = RpcClient.FromGroup<typeof EngineRpc, RpcClientError.RpcClientError>

type Learning = "LearnSupervised" | "LearnPreferences"

/** A client of an engine; a training takes its next step when that is asked for. */
export type Client = Omit<Asked, Learning> & {
  readonly [Name in Learning]: (payload: Parameters<Asked[Name]>[0]) => Steps
}

/** The metrics of a training, one element a step. */
type Steps = Stream.Stream<Readonly<Record<string, number>>, EngineError | RpcClientError.RpcClientError>

/** Starts an engine in a worker thread of its own; the thread ends with the scope. */
export const client = (options: Engine.Options): Effect.Effect<Client, RpcClientError.RpcClientError, Scope.Scope> =>
  Effect.gen(function* () {
    // A program that is in one file with this one begins anew in the engine's thread, and would start the next there.
    if (started?.charterEngine !== undefined) return yield* Effect.callback<never>(() => end(bundled))
    // Started here, as nobody would hear of what keeps a thread from starting where the protocol starts it.
    let first: worker.Worker | undefined = yield* Effect.try({
      try: () => start(options),
      catch: (cause) => {
        const message = `The engine's thread cannot be started: ${cause instanceof Error ? cause.message : String(cause)}`
        return new EngineEnded({ reason: new RpcClientError.RpcClientDefect({ message, cause }) })
      }
    })
    const thread = () => {
      const next = first ?? start(options)
      first = undefined
      return next
    }
    const context = yield* Layer.build(
      RpcClient.layerProtocolWorker({ size: 1, concurrency: Number.MAX_SAFE_INTEGER }).pipe(
        Layer.provide(NodeWorker.layer(thread)),
        Layer.orDie
      )
    )
    const protocol = Context.get(context, RpcClient.Protocol)
    const asked = yield* RpcClient.make(EngineRpc, { disableTracing: true }).pipe(
      Effect.provideService(RpcClient.Protocol, stepByStep(inItsWords(protocol))),
      Effect.provide(context)
    )
    return {
      ...asked,
      LearnSupervised: taken(asked.LearnSupervised),
      LearnPreferences: taken(asked.LearnPreferences)
    }
  })

/** Stands behind each step of a training: a step without numbers. */
const behind = {}

/**
 * A protocol that tells of each step of a training with {@link behind} after it. A client says that something has
 * arrived as soon as it has room for it, and the engine would be dozens of steps ahead of a slow reader. Without any
 * room it says so when all that came together is taken: here, when the next step is asked for. It also says so of what
 * it throws away at a stream's early end, just before it tells of the end: a turn later the engine need not hear of it.
 */
const stepByStep = (protocol: RpcClient.Protocol["Service"]): RpcClient.Protocol["Service"] => ({
  ...protocol,
  run: (clientId, f) =>
    protocol.run(clientId, (data) => f(data._tag === "Chunk" ? { ...data, values: [...data.values, behind] } : data)),
  send: (...request) =>
    Effect.andThen(
      request[1]._tag === "Ack" ? nextTurn : Effect.void,
      Effect.suspend(() => protocol.send(...request))
    )
})

const nextTurn = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** The steps of a training, each taken when it is asked for. */
const taken =
  <Payload>(steps: (payload: Payload, options: { readonly streamBufferSize: number }) => Steps) =>
  (payload: Payload): Steps =>
    Stream.filter(steps(payload, { streamBufferSize: 0 }), (metrics) => Object.keys(metrics).length > 0)

/** An engine that ended, with the sentence that it ended with. */
class EngineEnded extends RpcClientError.RpcClientError {
  override get message(): string {
    return this.reason.message
  }
}

/**
 * A protocol whose failures say what the thread failed with, such as a folder that an engine cannot start without.
 * Otherwise they say that there was an event, and keep its error to themselves.
 */
const inItsWords = (protocol: RpcClient.Protocol["Service"]): RpcClient.Protocol["Service"] => {
  const said = (error: RpcClientError.RpcClientError): RpcClientError.RpcClientError => {
    const { cause } = error.reason
    if (error.reason._tag !== "WorkerReceiveError" || !(cause instanceof Error)) return error
    return new EngineEnded({ reason: new RpcClientError.RpcClientDefect({ message: cause.message, cause }) })
  }
  return {
    ...protocol,
    run: (clientId, f) =>
      protocol.run(clientId, (data) =>
        f(data._tag === "ClientProtocolError" ? { ...data, error: said(data.error) } : data)
      ),
    send: (...request) => Effect.mapError(protocol.send(...request), said)
  }
}

/**
 * The thread. It ends by itself when it is told to, after the native run that it is in: torn out of native code, the
 * runtime's binding would end the whole process with an abort, so whoever wants to terminate it waits for its end.
 */
const start = (options: Engine.Options): worker.Worker => {
  // As a text and not by its path: a thread has the options of its process, and `--input-type` is refused with a file.
  const thread = new worker.Worker(`import(${JSON.stringify(import.meta.url)})`, {
    eval: true,
    workerData: { charterEngine: options },
    // What a session sets in the environment is meant for the process.
    env: worker.SHARE_ENV
  })
  const ended = new Promise<number>((resolve) => thread.once("exit", resolve))
  thread.terminate = () => ended
  const on = thread.on.bind(thread)
  // Answers of a whole batch arrive together, and whoever asked goes on in the turn in which they are told.
  thread.on = (event: string, listener: (...args: Array<any>) => void) =>
    on(event, event === "message" ? Turn.spread(listener) : listener)
  return thread
}

const bundled =
  "The program is in one bundle with charter-ai and began anew in the engine's thread; leave charter-ai out of the bundle (esbuild: --external:charter-ai)."

/** What an engine ends with is thrown in its thread: so the client hears of it in the thread's own `error` event. */
const end = (message: string): void => {
  setImmediate(() => {
    throw new Error(message)
  })
}

const teardown = (exit: Exit.Exit<unknown, unknown>, onExit: (code: number) => void): void => {
  if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return onExit(0)
  const error = Cause.squash(exit.cause)
  const expected = error instanceof Error && "_tag" in error
  end(expected ? error.message : Cause.pretty(exit.cause))
}

const started = worker.workerData as { readonly charterEngine?: Engine.Options } | null
if (!worker.isMainThread && started?.charterEngine !== undefined) {
  RpcServer.layer(EngineRpc, { disableTracing: true, concurrency: "unbounded" }).pipe(
    Layer.provide(Engine.layer(started.charterEngine)),
    Layer.provide(RpcServer.layerProtocolWorkerRunner),
    Layer.provide(NodeWorkerRunner.layer),
    Layer.launch,
    // Standard output is for answers alone.
    Effect.provideService(Logger.LogToStderr, true),
    NodeRuntime.runMain({ disableErrorReporting: true, teardown })
  )
}
