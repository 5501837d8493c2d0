/** TrainingState: what a resumed training continues from, in one file that is never half-written. */
import { Effect } from "effect"
import { existsSync } from "node:fs"
import * as path from "node:path"
import { crc32 } from "node:zlib"
import * as Folder from "../Folder.ts"
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

/** A checksum of everything in a state: a training must not go on from numbers that a disk has changed. */
const checksum = (state: State, counts: Readonly<Record<string, string | undefined>>): string =>
  arrays
    .reduce(
      (sum, name) => crc32(new Uint8Array(state[name].buffer, state[name].byteOffset, state[name].byteLength), sum),
      crc32(JSON.stringify([counts["step"], counts["progress"], counts["more"]]))
    )
    .toString(16)

/**
 * Writes parameters, moments, the optimizer's step and the progress. Random choices come from seeds and counts, so no
 * state of a generator is needed. What is being written cannot be taken back: an interruption waits for its end, or the
 * same training, asked for again, would write into the same file beside it.
 */
export const save = (
  dir: string,
  state: State,
  progress: number,
  more: Readonly<Record<string, number>> = {},
  /** What it belongs to, see `TrainingIdentity.ts`. */
  training?: string
): Effect.Effect<void, Safetensors.SafetensorsError> => {
  const counts = { step: String(state.step), progress: String(progress), more: JSON.stringify(more) }
  return Effect.andThen(
    Effect.try({
      try: () => Folder.makeUnsafe(dir),
      catch: (cause) => new Safetensors.SafetensorsError({ file: dir, reason: `cannot be made: ${reason(cause)}` })
    }),
    Effect.suspend(() =>
      Safetensors.write(
        fileOf(dir),
        arrays.map((name) => ({ name, shape: [state[name].length], data: state[name] })),
        { ...counts, ...(training === undefined ? {} : { training }), crc32: checksum(state, counts) }
      )
    )
  ).pipe(Effect.uninterruptible)
}

/** The saved state with its progress, if there is one of `size` parameters; one of another `training` is refused. */
export const load = (
  dir: string,
  size: number,
  training?: string
): Effect.Effect<Saved | undefined, Safetensors.SafetensorsError> => {
  const file = fileOf(dir)
  if (!existsSync(file)) return Effect.succeed(undefined)
  return Effect.mapError(
    read(file, size, training),
    // What is otherwise to be done about such a file, as to download it again, is of no use here.
    ({ reason }) =>
      new Safetensors.SafetensorsError({
        file,
        reason: `${reason.replace(/;.*$/s, "")}; delete ${dir} to start over`
      })
  )
}

const read = Effect.fnUntraced(function* (
  file: string,
  size: number,
  training: string | undefined
): Effect.fn.Return<Saved, Safetensors.SafetensorsError> {
  const { metadata, tensors } = yield* Safetensors.read(file)
  const state: State = {
    parameters: new Float32Array(0),
    m: new Float32Array(0),
    v: new Float32Array(0),
    step: Number(metadata["step"])
  }
  // States of earlier versions do not say what they belong to.
  const theirs = metadata["training"]
  if (training !== undefined && theirs !== undefined && theirs !== training) {
    const reason = "holds the state of another training (of other samples, or with another seed or batch size)"
    return yield* new Safetensors.SafetensorsError({ file, reason })
  }
  for (const name of arrays) {
    const info = tensors.get(name)
    if (info === undefined || info.shape.length !== 1 || info.shape[0] !== size) {
      const reason = `holds the state of another training (${name} of ${info?.shape[0] ?? 0} numbers, not ${size})`
      return yield* new Safetensors.SafetensorsError({ file, reason })
    }
    state[name] = yield* Safetensors.load(info)
  }
  // States of earlier versions have no checksum.
  const sum = metadata["crc32"]
  if (sum !== undefined && sum !== checksum(state, metadata)) {
    return yield* new Safetensors.SafetensorsError({ file, reason: "has other numbers than were saved" })
  }
  const more = JSON.parse(metadata["more"] ?? "{}") as Record<string, number>
  return { state, progress: Number(metadata["progress"]), more }
})
