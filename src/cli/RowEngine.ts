/**
 * RowEngine: the engine of a command over rows, in a thread of its own, with the adapter that was given.
 */
import { Effect, Option } from "effect"
import { Flag } from "effect/cli"
import type { Checkpoint } from "../model/Checkpoint.ts"
import * as Finite from "../model/Finite.ts"
import { fromFailure } from "./CommandError.ts"
import * as Native from "./Native.ts"
import { fromInput } from "./UsageError.ts"

/** What the commands over rows take alike. */
export interface Input {
  readonly adapter: Option.Option<string>
  readonly precision: "fp32" | "int8"
  readonly device: "cpu" | "cuda"
}

/** `--precision`. */
export const precision = Flag.Literals("precision", ["fp32", "int8"]).pipe(
  Flag.withDescription("What the model's weights are computed in: fp32, or int8, which is faster (default: fp32)"),
  Flag.withDefault("fp32" as const)
)

/** The name of the adapter in the engine. */
export const adapterName = "adapter"

/** The engine of a model until the scope closes, and the name of the adapter in it, if there is one. */
export const open = Effect.fnUntraced(function* (
  checkpoint: Checkpoint,
  input: Input,
  options: { readonly head: "none" | "score"; readonly cacheMemory?: number }
) {
  const { head, ...engine } = options
  const Device = yield* Native.load(() => import("../onnx/Device.ts"))
  yield* Effect.mapError(Device.check(input.device), fromInput)
  const EngineWorker = yield* Native.load(() => import("../engine/EngineWorker.ts"))
  const { device, precision } = input
  const client = yield* EngineWorker.client({ dir: checkpoint.dir, precision, device, ...engine })
  // Meanwhile the engine compiles.
  yield* Effect.mapError(Finite.check(checkpoint), fromInput)
  if (Option.isNone(input.adapter)) return { client, adapter: null }
  const source = { _tag: "folder", dir: input.adapter.value, seed: 0 } as const
  yield* client.MakeAdapter({ name: adapterName, source, head, reference: null }).pipe(Effect.mapError(fromFailure))
  return { client, adapter: adapterName }
})
