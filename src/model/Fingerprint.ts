/**
 * Fingerprint: which model a result comes from, without reading all of its weights.
 *
 * A hash over the configuration, every tensor's name, type, shape and place, and blocks spread over each tensor, from its
 * first byte to its last: other weights of the same shape differ in those too.
 */
import { Effect } from "effect"
import { createHash } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as ChatTemplate from "./ChatTemplate.ts"
import type { Checkpoint } from "./Checkpoint.ts"
import { CheckpointError, readText } from "./ModelFile.ts"
import { reason } from "./Quoted.ts"

/** Blocks of a tensor, two at least. */
const [blocks, blockBytes] = [4, 1024]

/** 16 hexadecimal digits for a checkpoint. */
export const of = (checkpoint: Checkpoint): Effect.Effect<string, CheckpointError> =>
  Effect.tryPromise({
    try: async () => {
      const hash = createHash("sha256").update(JSON.stringify(checkpoint.config))
      const files = new Map<string, fs.FileHandle>()
      try {
        const block = Buffer.alloc(blockBytes)
        for (const tensor of [...checkpoint.tensors.values()].sort((a, b) => (a.name < b.name ? -1 : 1))) {
          const { dtype, file, length, name, offset, shape } = tensor
          hash.update(JSON.stringify([name, dtype, shape, offset, length]))
          const handle = files.get(file) ?? (await fs.open(file, "r"))
          files.set(file, handle)
          const size = Math.min(blockBytes, length)
          for (let i = 0; i < blocks; i++) {
            const at = offset + Math.floor((i / (blocks - 1)) * (length - size))
            const { bytesRead } = await handle.read(block, 0, size, at)
            hash.update(block.subarray(0, bytesRead))
          }
        }
      } finally {
        for (const handle of files.values()) await handle.close()
      }
      return hash.digest("hex").slice(0, 16)
    },
    catch: (cause) => new CheckpointError({ file: checkpoint.dir, reason: `cannot be read: ${reason(cause)}` })
  })

/** The files that say how text becomes tokens. */
const textFiles = ["tokenizer.json", "tokenizer_config.json", ChatTemplate.files.usual]

/**
 * 16 hexadecimal digits for a checkpoint that is given text: its own, how text becomes its tokens, and which of them it
 * begins and ends with.
 */
export const ofText = Effect.fnUntraced(function* (checkpoint: Checkpoint): Effect.fn.Return<string, CheckpointError> {
  const { bosTokenId, dir, eosTokenIds, padTokenId } = checkpoint
  const texts = yield* Effect.forEach(textFiles, (name) => readText(path.join(dir, name)))
  // What the older file says counts only where the newer one does not have all tokens (see `TokenizerConfig.ts`).
  const counts = !(texts[1] ?? "").includes('"added_tokens_decoder"')
  const older = counts ? yield* readText(path.join(dir, "special_tokens_map.json")) : undefined
  const forTools = yield* readText(path.join(dir, ChatTemplate.files.forTools))
  const all = [
    yield* of(checkpoint),
    eosTokenIds,
    bosTokenId,
    padTokenId,
    texts,
    ...(older === undefined ? [] : [older]),
    ...(forTools === undefined ? [] : [{ forTools }])
  ]
  return createHash("sha256").update(JSON.stringify(all)).digest("hex").slice(0, 16)
})
