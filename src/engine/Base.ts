/**
 * Base: a checkpoint with how it is computed, which the decoding, scoring and learning programs are made over.
 */
import { Effect, Schema } from "effect"
import type { Checkpoint, CheckpointError } from "../model/Checkpoint.ts"
import * as Quantized from "../model/Quantized.ts"
import type { SafetensorsError } from "../model/Safetensors.ts"
import * as Device from "../onnx/Device.ts"
import type { SessionError } from "../onnx/Session.ts"
import * as Calibration from "./Calibration.ts"

/** How a checkpoint is computed. */
export interface Options {
  /** What the frozen linear maps are computed in: fp32 if not given. */
  readonly precision?: Quantized.Precision | undefined
  /** What is computed on: the processor if not given. */
  readonly device?: Device.Device | undefined
}

/** A checkpoint whose frozen linear maps may be computed in 8 bits, on a device. */
export interface Base extends Checkpoint {
  readonly quantized?: Quantized.Quantized
  readonly device?: Device.Device
}

/** A checkpoint cannot be computed so. */
export class BaseError extends Schema.TaggedError<BaseError>()("BaseError", { message: Schema.String }) {}

/** Makes a base; fails in a sentence where the device is not there or the weights cannot be quantised. */
export const make = Effect.fnUntraced(function* (
  checkpoint: Checkpoint,
  { device = "cpu", precision = "fp32" }: Options
): Effect.fn.Return<Base, BaseError | Device.DeviceError | CheckpointError | SafetensorsError | SessionError> {
  if (precision === "int8" && device === "cuda") {
    return yield* new BaseError({
      message: "The runtime has no products of 8-bit numbers on a GPU; leave out the precision int8, or the device."
    })
  }
  yield* Device.check(device)
  if (precision === "fp32") return { ...checkpoint, device }
  return { ...checkpoint, device, quantized: yield* Quantized.open(checkpoint, Calibration.activations(checkpoint)) }
})
