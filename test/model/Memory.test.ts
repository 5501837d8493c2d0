import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as path from "node:path"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Memory from "../../src/model/Memory.ts"

const open = (name: string) => Checkpoint.open(path.join(import.meta.dirname, "../fixtures", name))

describe("the memory of a model", () => {
  it.effect("is that of its tensors, of which a tied head is none", () =>
    Effect.gen(function* () {
      for (const name of ["tiny-llama", "tiny-phi3"]) {
        const { config, tensors } = yield* open(name)
        let bytes = 0
        for (const { length } of tensors.values()) bytes += length
        expect(config.tieEmbeddings).toBe(name === "tiny-llama")
        expect(Memory.fp32Bytes(config)).toBe(bytes)
        expect(Memory.parameterCount(config)).toBe(bytes / 4)
      }
      // Keys and values of 2 layers with 2 heads of 16 numbers, in 4 bytes each.
      expect(Memory.cacheBytesPerToken((yield* open("tiny-llama")).config)).toBe(2 * 2 * 2 * 16 * 4)
    })
  )

  it.effect("is a byte for each weight of a linear map in 8 bits, and a scale for each output", () =>
    Effect.gen(function* () {
      // Of a tied model the embedding stays beside the head in 8 bits.
      const layer = 64 * (64 + 32 + 32 + 64 + 3 * 160)
      const outputs = 64 + 32 + 32 + 64 + 160 + 160 + 64
      const llama = yield* open("tiny-llama")
      const kept = 4 * (5 * 64 + 320 * 64)
      expect(Memory.int8Bytes(llama)).toBe(kept + 2 * (layer + 4 * outputs) + 320 * 64 + 4 * 320)
      const phi3 = yield* open("tiny-phi3")
      const part = 32 * (64 + 32 + 48 + 24) + 4 * (64 + 32 + 48 + 32)
      expect(Memory.int8Bytes(phi3)).toBe(4 * (5 * 32 + 64 * 32) + 2 * part + 64 * 32 + 4 * 64)
    })
  )

  it.effect(
    "of scoring has the embedding's rows alone, and the widened head beside the weights as they are stored",
    () =>
      Effect.gen(function* () {
        const llama = yield* open("tiny-llama")
        const run = Memory.scoringBytes(llama, "fp32") - 4 * Memory.parameterCount(llama.config)
        expect(Memory.scoringBytes(llama, "int8") - (Memory.int8Bytes(llama) - 4 * 320 * 64)).toBe(run)
        expect(run).toBe(350e6 + 48e6 + 4 * 2048 * (6 * 64 + 4 * 160 + 1024 * 4))
        // A head of its own in half the bytes is there twice, once as it lies in the file.
        const phi3 = yield* open("tiny-phi3")
        const halved = new Map([...phi3.tensors].map(([name, t]) => [name, { ...t, length: t.length / 2 }] as const))
        const [whole, half] = [phi3, { ...phi3, tensors: halved }].map((it) => Memory.scoringBytes(it, "fp32"))
        expect(whole! - half!).toBe(2 * (Memory.parameterCount(phi3.config) - 64 * 32))
      })
  )
})
