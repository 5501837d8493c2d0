/** TrainingState: what a resumed training continues from, in one file that is never half-written. */
import { Effect } from "effect"
import { existsSync, mkdirSync } from "node:fs"
import * as path from "node:path"
import { reason } from "../model/Quoted.ts"
import * as Safetensors from "../model/Safetensors.ts"
import type { State } from "./Learner.ts"

const arrays = ["parameters", "m", "v"] as const

const fileOf = (dir: string): string => path.join(dir, "state.safetensors")

/** A state with what else its training has to remember. */
export interface Saved {
  readonly state: State
  /** What the caller counts (steps, iterations): how far the data has been used. */
  readonly progress: number
  /** Further numbers of the caller's, such as the KL coefficient. */
  readonly more: Readonly<Record<string, number>>
}

/**
 * Writes parameters, moments, the optimizer's step and the progress. Random choices come from seeds and counts, so no
 * state of a generator is needed.
 */
export const save = (
  dir: string,
  state: State,
  progress: number,
  more: Readonly<Record<string, number>> = {}
): Effect.Effect<void, Safetensors.SafetensorsError> =>
  Effect.andThen(
    Effect.try({
      try: () => mkdirSync(dir, { recursive: true }),
      catch: (cause) => new Safetensors.SafetensorsError({ file: dir, reason: `cannot be made: ${reason(cause)}` })
    }),
    Safetensors.write(
      fileOf(dir),
      arrays.map((name) => ({ name, shape: [state[name].length], data: state[name] })),
      { step: String(state.step), progress: String(progress), more: JSON.stringify(more) }
    )
  )

/** The saved state with its progress, if there is one of `size` parameters. */
export const load = Effect.fnUntraced(function* (
  dir: string,
  size: number
): Effect.fn.Return<Saved | undefined, Safetensors.SafetensorsError> {
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
  const more = JSON.parse(metadata["more"] ?? "{}") as Record<string, number>
  return { state, progress: Number(metadata["progress"]), more }
})
