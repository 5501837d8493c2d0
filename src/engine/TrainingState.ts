/** TrainingState: what a resumed training continues from, in one file that is never half-written. */
import { Effect } from "effect"
import { existsSync, mkdirSync } from "node:fs"
import * as path from "node:path"
import * as Safetensors from "../model/Safetensors.ts"
import type { State } from "./Learner.ts"

const arrays = ["parameters", "m", "v"] as const

const fileOf = (dir: string): string => path.join(dir, "state.safetensors")

/** Writes parameters, moments and the step; `progress` counts what the caller counts (steps, iterations). */
export const save = (dir: string, state: State, progress: number): Effect.Effect<void, Safetensors.SafetensorsError> =>
  Effect.suspend(() => {
    mkdirSync(dir, { recursive: true })
    return Safetensors.write(
      fileOf(dir),
      arrays.map((name) => ({ name, shape: [state[name].length], data: state[name] })),
      { step: String(state.step), progress: String(progress) }
    )
  })

/** The saved state with its progress, if there is one of `size` parameters. */
export const load = Effect.fnUntraced(function* (
  dir: string,
  size: number
): Effect.fn.Return<{ readonly state: State; readonly progress: number } | undefined, Safetensors.SafetensorsError> {
  const file = fileOf(dir)
  if (!existsSync(file)) return undefined
  const { metadata, tensors } = yield* Safetensors.read(file)
  const state: State = {
    parameters: new Float32Array(0),
    m: new Float32Array(0),
    v: new Float32Array(0),
    step: Number(metadata["step"])
  }
  for (const name of arrays) {
    const info = tensors.get(name)
    if (info === undefined || info.shape.length !== 1 || info.shape[0] !== size) {
      const reason = `holds the state of another training (${name} of ${info?.shape[0] ?? 0} numbers, not ${size}); move the folder away to start anew`
      return yield* new Safetensors.SafetensorsError({ file, reason })
    }
    state[name] = yield* Safetensors.load(info)
  }
  return { state, progress: Number(metadata["progress"]) }
})
