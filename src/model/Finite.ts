/**
 * Finite: whether all weights are numbers.
 *
 * A single NaN or infinity makes every result of a network NaN, and nothing in a file's header tells of it, so all bytes
 * have to be looked at. That takes as long as reading the file once, and what was read is then in the system's cache
 * for ONNX Runtime.
 */
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import type { Checkpoint } from "./Checkpoint.ts"
import { CheckpointError } from "./ModelFile.ts"
import { parameters } from "./ModelConfig.ts"
import { reason } from "./Quoted.ts"
import type { TensorInfo } from "./Safetensors.ts"

const chunkBytes = 1 << 22

/** Exponents of all ones, in each of the words of 32 bits that are looked at: one float, or two halves. */
const masks = { F32: [0x7f800000], F16: [0x7c000000, 0x7c00], BF16: [0x7f800000, 0x7f80] } as const

/** The index of the first word with such an exponent, or -1. */
const suspect = (words: Int32Array, length: number, [high, low = high]: ReadonlyArray<number>): number => {
  const [upper, lower] = [high!, low!]
  for (let i = 0; i < length; i++) {
    const word = words[i]!
    if ((word & upper) === upper || (word & lower) === lower) return i
  }
  return -1
}

/** The index of the first element of a tensor that is no number, or -1. */
const firstIn = async (handle: fs.FileHandle, { dtype, length, offset }: TensorInfo, words: Int32Array) => {
  const mask = masks[dtype as keyof typeof masks]
  const bytes = new Uint8Array(words.buffer)
  for (let done = 0; done < length; done += chunkBytes) {
    const size = Math.min(chunkBytes, length - done)
    for (let filled = 0; filled < size;) {
      const { bytesRead } = await handle.read(bytes, filled, size - filled, offset + done + filled)
      if (bytesRead === 0) throw new Error("it ends inside its tensors")
      filled += bytesRead
    }
    // Of an odd number of halves the last stands alone.
    bytes.fill(0, size, Math.ceil(size / 4) * 4)
    const at = suspect(words, Math.ceil(size / 4), mask)
    if (at >= 0) {
      if (dtype === "F32") return done / 4 + at
      return done / 2 + 2 * at + ((words[at]! & mask[1]!) === mask[1] ? 0 : 1)
    }
  }
  return -1
}

/**
 * Reads all weights that the network needs, in pieces, and fails with a `CheckpointError` that names the first tensor
 * with a NaN or an infinity in it and the element's place in that tensor.
 */
export const check = Effect.fn("Finite.check")(function* ({
  config,
  tensors
}: Checkpoint): Effect.fn.Return<void, CheckpointError> {
  const needed = [...parameters(config).keys()].map((name) => tensors.get(name)!)
  const words = new Int32Array(chunkBytes / 4)
  for (const [file, members] of Map.groupBy(needed, (tensor) => tensor.file)) {
    const found = yield* Effect.tryPromise({
      try: async () => {
        const handle = await fs.open(file, "r")
        try {
          for (const tensor of members.toSorted((a, b) => a.offset - b.offset)) {
            const at = await firstIn(handle, tensor, words)
            if (at >= 0) return { name: tensor.name, at: place(at, tensor.shape) }
          }
          return undefined
        } finally {
          await handle.close()
        }
      },
      catch: (cause) => new CheckpointError({ file, reason: `cannot be read: ${reason(cause)}` })
    })
    if (found !== undefined) {
      return yield* new CheckpointError({
        file,
        reason: `holds a NaN or an infinity in ${found.name} at [${found.at.join(", ")}]; take the model of an earlier step or download it again`
      })
    }
  }
})

/** The place of an element in a row-major tensor. */
const place = (index: number, shape: ReadonlyArray<number>): Array<number> => {
  const at: Array<number> = []
  for (const size of shape.toReversed()) {
    at.unshift(index % size)
    index = Math.floor(index / size)
  }
  return at
}
