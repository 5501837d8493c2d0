import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Finite from "../../src/model/Finite.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"
import { temporaryFolder } from "./temporaryFolder.ts"

const tiny = path.join(import.meta.dirname, "../fixtures/tiny-llama")
const norm = "model.layers.1.input_layernorm.weight"
const embedding = "model.embed_tokens.weight"

/** The tiny model with its weights as `dtype`, some of them changed. */
const modelWith = Effect.fnUntraced(function* (
  dtype: "F32" | "F16" | "BF16",
  change: Readonly<Record<string, (data: Float32Array) => void>>
) {
  const dir = yield* temporaryFolder
  const { tensors } = yield* Checkpoint.open(tiny)
  const changed = yield* Effect.forEach([...tensors.values()], (info) =>
    Effect.map(Safetensors.load(info), (data) => {
      change[info.name]?.(data)
      return { name: info.name, shape: info.shape, data, dtype }
    })
  )
  yield* Effect.promise(() => fs.copyFile(path.join(tiny, "config.json"), path.join(dir, "config.json")))
  yield* Safetensors.write(path.join(dir, "model.safetensors"), changed)
  return yield* Checkpoint.open(dir)
})

describe("Finite.check", () => {
  it.effect("passes weights of every type that are numbers, the largest too", () =>
    Effect.gen(function* () {
      yield* Finite.check(yield* Checkpoint.open(tiny))
      for (const dtype of ["F16", "BF16"] as const) {
        yield* Finite.check(yield* modelWith(dtype, { [norm]: (data) => data.fill(dtype === "F16" ? 65504 : -3e38) }))
      }
    })
  )

  it.effect("names the first tensor and element that is none", () =>
    Effect.gen(function* () {
      for (const dtype of ["F32", "F16", "BF16"] as const) {
        for (const [value, index, place] of [
          [NaN, 0, "[0, 0]"],
          [-Infinity, 64 * 64 + 1, "[64, 1]"],
          [NaN, 320 * 64 - 1, "[319, 63]"]
        ] as const) {
          const model = yield* modelWith(dtype, { [embedding]: (data) => (data[index] = value) })
          const error = yield* Effect.flip(Finite.check(model))
          expect(error.message).toContain(`model.safetensors holds a NaN or an infinity in ${embedding} at ${place};`)
        }
      }
    })
  )
})
