/**
 * The golden values of the tiny models: made with transformers and peft, fp32; those of mistral, ministral, phi3, smollm3 and olmo2
 * by `bench/parity/families.py`.
 */
import { Effect } from "effect"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import * as Decoder from "../../src/engine/Decoder.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"

export const models = ["llama", "qwen2", "qwen3", "gemma3", "mistral", "ministral", "phi3", "smollm3", "olmo2"] as const

export const folderOf = (model: (typeof models)[number]): string =>
  fileURLToPath(new URL(`../fixtures/tiny-${model}`, import.meta.url))

/** That of the tiny llama. */
export const folder = folderOf("llama")

/** Batch of 3 rows of 24 tokens with their mask, and everything computed from it. */
export const loadFrom = Effect.fnUntraced(function* (folder: string) {
  const checkpoint = yield* Checkpoint.open(folder)
  const file = yield* Safetensors.read(path.join(folder, "golden.safetensors"))
  const floats = (name: string) => Safetensors.load(file.tensors.get(name)!)
  const integers = (name: string) =>
    Effect.map(Safetensors.loadIntegers(file.tensors.get(name)!), (x) => Array.from(x, Number))
  const ids = yield* integers("ids")
  const rows = [0, 1, 2].map((b) => ids.slice(b * 24, b * 24 + 24))
  const lossMask = yield* floats("loss_mask")
  return { checkpoint, file, floats, integers, rows, lossMask }
})

/** What a decoder of its own answers to requests that are asked together. */
export const answers = (
  checkpoint: Checkpoint.Checkpoint,
  options: Decoder.Options,
  requests: ReadonlyArray<Decoder.Request>
) =>
  Effect.gen(function* () {
    const decoder = yield* Decoder.make(checkpoint, options)
    return yield* Effect.forEach(requests, decoder.generate, { concurrency: "unbounded" })
  }).pipe(Effect.scoped)

/** The batch of the tiny llama. */
export const load = Effect.suspend(() => loadFrom(folder))

/** The largest difference between two arrays. */
export const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY
  let most = 0
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!))
  return most
}

/** The largest absolute entry. */
export const largest = (a: ArrayLike<number>): number => distance(a, new Float32Array(a.length))
