/**
 * DeviceFlag: `--device`, which commands that compute have alike.
 */
import { Flag } from "effect/cli"

/** `--device`. */
export const device = Flag.Literals("device", ["cpu", "cuda"]).pipe(
  Flag.withDescription("What is computed on: the processor, or an NVIDIA GPU (docs/gpu.md; default: cpu)"),
  Flag.withDefault("cpu" as const)
)
