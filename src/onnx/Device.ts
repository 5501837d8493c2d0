/**
 * Device: what graphs are computed on.
 */
import { Effect, Schema } from "effect"
import * as Graph from "./Graph.ts"
import * as Op from "./Op.ts"
import * as Session from "./Session.ts"

/** The processor's cores, or the first NVIDIA GPU. */
export type Device = Session.Device

/** This machine has no such device, or the runtime lacks the libraries for it. */
export class DeviceError extends Schema.TaggedError<DeviceError>()("DeviceError", {
  device: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return (
      `ONNX Runtime cannot compute on ${this.device} here: ${this.reason}. It takes an NVIDIA GPU with its driver, CUDA ` +
      "with cuDNN, and the runtime's library for it (its own line above names what is missing; docs/gpu.md); leave out " +
      "the device to compute on the processor."
    )
  }
}

/**
 * Computes one sum on the device: so it is known before anything is read or written whether it can be used. The runtime
 * itself names a library that it does not find, on standard error.
 */
export const check = (device: Device): Effect.Effect<void, DeviceError> =>
  device === "cpu"
    ? Effect.void
    : Effect.gen(function* () {
        const graph = Graph.make("device")
        const x = Graph.input(graph, "x", "float32", [1])
        Graph.output(graph, "y", Op.add(x, x))
        const session = yield* Session.make(graph, { device })
        yield* session.run({ x: Session.float32(Float32Array.of(1), [1]) })
      }).pipe(
        Effect.scoped,
        Effect.mapError(({ reason }) => new DeviceError({ device, reason: reason.replace(/\.$/, "") }))
      )
