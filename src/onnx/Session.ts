/**
 * Session: a compiled graph in ONNX Runtime, as a scoped resource.
 *
 * `run` blocks the thread it is called on for its whole length, so sessions live in the engine's worker thread
 * (`engine/EngineWorker.ts`), never on the main one. Inputs are read where they lie; outputs are copied: fetch little.
 */
import { Effect, Schema } from "effect"
import type { Scope } from "effect"
import { availableParallelism, cpus } from "node:os"
import { InferenceSession, Tensor } from "onnxruntime-node"
import type { Graph } from "./Graph.ts"
import * as Proto from "./Proto.ts"
import * as Saturation from "./Saturation.ts"

/** A failure to compile or to run a graph. */
export class SessionError extends Schema.TaggedError<SessionError>()("SessionError", {
  graph: Schema.String,
  phase: Schema.Literals(["compile", "run"]),
  reason: Schema.String
}) {
  override get message(): string {
    return `ONNX Runtime could not ${this.phase} ${this.graph}: ${this.reason}`
  }
}

/** The tensor type of the runtime. */
export { Tensor }

/** What is computed on: the processor, or the first NVIDIA GPU; what a GPU has no operator for goes to the processor. */
export type Device = "cpu" | "cuda"

/** How a graph is compiled. */
export interface SessionOptions {
  /** The processor if not given. */
  readonly device?: Device
  /** The folder that external data (weights) lies in. */
  readonly folder?: string
  /**
   * What becomes of weights in files. `resident`, the default: they are read into the memory, widened to float32 and put
   * into the order in which they are multiplied, which pays where few tokens are computed at a time. `unpacked`: they
   * are widened but keep their order, which saves a second copy of them. `mapped`: they stay in their files as they are,
   * and each run widens what it uses.
   */
  readonly weights?: "resident" | "unpacked" | "mapped"
  /** Threads of one run; if not given, one for each core that the process may use. */
  readonly threads?: number
}

/** The most threads that a run has where nothing else is asked for. */
export const mostThreads = availableParallelism()

/**
 * The runtime's own choice is one thread for each physical core of the machine, whatever the process may use of it: right
 * where that is everything, and too many under an affinity or a quota.
 */
const ownThreads = mostThreads < cpus().length ? mostThreads : undefined

/** Tensors by input name. */
export type Feeds = Readonly<Record<string, Tensor>>

/** A compiled graph. */
export interface Session {
  readonly name: string
  /**
   * Runs the graph and returns the named results, all of them when none are named. Where a tensor is given for a result,
   * the runtime writes there what it copies otherwise. It may be one that is fed in the same run, if only the operator
   * that makes the result reads it, number by number.
   */
  readonly run: (
    feeds: Feeds,
    fetches?: ReadonlyArray<string> | Readonly<Record<string, Tensor | null>>
  ) => Effect.Effect<Record<string, Tensor>, SessionError>
}

/** Compiles a graph; the session is released with the scope. */
export const make = (graph: Graph, options: SessionOptions = {}): Effect.Effect<Session, SessionError, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.tryPromise({
        try: async () => {
          optOut()
          if (options.device === "cuda") exact32()
          const bytes = graph.initializers.some(({ value }) => value.dtype === "int8")
          const exact = bytes && (await Saturation.saturates())
          return InferenceSession.create(Proto.encode(graph), sessionOptions(options, exact))
        },
        catch: (cause) => new SessionError({ graph: graph.name, phase: "compile", reason: reasonOf(cause) })
      }),
      (session) => Effect.promise(() => session.release()),
      { interruptible: false }
    ),
    (session): Session => ({
      name: graph.name,
      run: (feeds, fetches) =>
        Effect.tryPromise({
          try: () => session.run(feeds, fetches ?? session.outputNames) as Promise<Record<string, Tensor>>,
          catch: (cause) => new SessionError({ graph: graph.name, phase: "run", reason: reasonOf(cause) })
        })
    })
  )

/**
 * The runtime's binaries tell their maker what is run, unless this stands in the environment of the process when its
 * first session is made. Who wants it otherwise sets the variable.
 */
const optOut = (): void => {
  process.env["ORT_DISABLE_TELEMETRY"] ||= "1"
}

/**
 * A GPU's products of floats have 10 bits of mantissa (TF32) unless this stands in the environment before the first of
 * them: log-probabilities would be off by 1e-3, which decoding and learning round differently. Who prefers the speed
 * sets the variable to 1.
 */
const exact32 = (): void => {
  process.env["NVIDIA_TF32_OVERRIDE"] ||= "0"
}

/** The runtime's options; `exact` where products of bytes would saturate. */
const sessionOptions = (
  { device = "cpu", folder, threads = ownThreads, weights = "resident" }: SessionOptions,
  exact: boolean
): InferenceSession.SessionOptions => ({
  executionProviders: device === "cpu" ? ["cpu"] : [device, "cpu"],
  graphOptimizationLevel: "all",
  // The pattern of one shape would be kept for every other: it doubles the peak where lengths vary.
  enableMemPattern: false,
  logSeverityLevel: 3,
  ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
  extra: {
    session: {
      // A thread that waits for the next operator spins for a moment: long enough for the small ones between two large
      // ones, too short to be missed where anything else needs the cores.
      "intra_op.allow_spinning": "1",
      "intra_op.spin_duration_us": "20",
      ...(exact ? { x64quantprecision: "1" } : {}),
      ...(weights === "resident" ? {} : { disable_prepacking: "1" }),
      ...(folder === undefined ? {} : { model_external_initializers_file_folder_path: folder })
    },
    // Both would widen halves when the graph is compiled.
    ...(weights === "mapped"
      ? { optimization: { disable_specified_optimizers: "ConstantFolding;FuseFp16InitializerToFp32NodeTransformer" } }
      : {})
  }
})

const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause)).trim()

/** A float32 tensor over the given numbers (not copied). */
export const float32 = (data: Float32Array, dims: ReadonlyArray<number>): Tensor => new Tensor("float32", data, dims)

/** An int64 tensor from integers. */
export const int64 = (data: ArrayLike<number>, dims: ReadonlyArray<number>): Tensor => {
  const wide = new BigInt64Array(data.length)
  for (let i = 0; i < data.length; i++) wide[i] = BigInt(data[i]!)
  return new Tensor("int64", wide, dims)
}

/** A float32 scalar. */
export const scalar = (x: number): Tensor => new Tensor("float32", new Float32Array([x]), [])

/** The numbers of a float32 result. */
export const floats = (tensor: Tensor): Float32Array => tensor.data as Float32Array
