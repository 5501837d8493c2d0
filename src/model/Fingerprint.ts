/**
 * Fingerprint: which weights a result comes from, without reading all of them.
 *
 * A hash over the configuration, every tensor's name, type, shape and place, and blocks spread over each file: other
 * weights of the same shape differ in those too.
 */
import { Effect } from "effect"
import { createHash } from "node:crypto"
import * as fs from "node:fs/promises"
import type { Checkpoint } from "./Checkpoint.ts"
import { CheckpointError } from "./Checkpoint.ts"

const [blocks, blockBytes] = [64, 4096]

/** 16 hexadecimal digits for a checkpoint. */
export const of = (checkpoint: Checkpoint): Effect.Effect<string, CheckpointError> =>
  Effect.tryPromise({
    try: async () => {
      const hash = createHash("sha256").update(JSON.stringify(checkpoint.config))
      const tensors = [...checkpoint.tensors.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
      for (const { dtype, length, name, offset, shape } of tensors) {
        hash.update(JSON.stringify([name, dtype, shape, offset, length]))
      }
      for (const file of [...new Set(tensors.map((t) => t.file))].sort()) {
        const handle = await fs.open(file, "r")
        try {
          const { size } = await handle.stat()
          const block = Buffer.alloc(blockBytes)
          for (let i = 0; i < blocks; i++) {
            const at = Math.floor((i / blocks) * Math.max(0, size - blockBytes))
            const { bytesRead } = await handle.read(block, 0, blockBytes, at)
            hash.update(block.subarray(0, bytesRead))
          }
        } finally {
          await handle.close()
        }
      }
      return hash.digest("hex").slice(0, 16)
    },
    catch: (cause) =>
      new CheckpointError({
        file: checkpoint.dir,
        reason: `cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`
      })
  })
