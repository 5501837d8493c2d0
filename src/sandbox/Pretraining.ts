/**
 * Pretraining of the sandbox model: the corpus as batches, and the weights it starts from.
 *
 * Batches hold documents of one length bucket, about 6,144 padded positions each. Which documents come in which batch
 * is a function of the seed, so a resumed training sees what an uninterrupted one would have seen.
 */
import type { WeightedRow } from "../engine/Batch.ts"
import type { Parameter } from "../engine/Trainables.ts"
import * as Config from "../model/ModelConfig.ts"
import type { ModelConfig } from "../model/ModelConfig.ts"
import * as Random from "../Random.ts"
import * as Corpus from "./Corpus.ts"

/** Lengths that documents are padded to. */
const buckets: ReadonlyArray<number> = [56, 88, 112, 136, 176]

/** Padded positions in a batch. */
const batchTokens = 6144

/** How the checkpoint in `assets/` was trained. */
export const options = {
  seed: 1,
  steps: 4400,
  warmup: 200,
  learningRate: 3e-3,
  floor: 0.03,
  weightDecay: 0.1,
  maxGradNorm: 1
} as const

/** A document as tokens with the loss weight of each. */
export const row = (encode: (text: string) => Array<number>, document: Corpus.Document): WeightedRow => {
  const ids: Array<number> = []
  const weights: Array<number> = []
  for (const segment of document.segments) {
    for (const id of encode(segment.text)) {
      ids.push(id)
      weights.push(segment.weight)
    }
  }
  return { ids, weights }
}

/** The batches of a seed, without end. */
export function* batches(seed: number, encode: (text: string) => Array<number>): Generator<Array<WeightedRow>> {
  const waiting = new Map<number, Array<WeightedRow>>(buckets.map((length) => [length, []]))
  for (let index = 0; ; index++) {
    const made = row(encode, Corpus.document(seed, index))
    const length = buckets.find((b) => made.ids.length <= b)
    if (length === undefined) continue
    const rows = waiting.get(length)!
    rows.push(made)
    if (rows.length < Math.floor(batchTokens / length)) continue
    waiting.set(length, [])
    yield rows
  }
}

/** The trainable tensors; only matrices decay. */
export const parameters = (config: ModelConfig): ReadonlyArray<Parameter> =>
  Array.from(Config.parameters(config), ([name, shape]) => ({
    name,
    shape,
    group: shape.length > 1 ? "matrices" : "vectors"
  }))

/** Initial numbers of a tensor: norms 1, matrices N(0, 0.02), those that write to the residual stream smaller. */
export const initial = (config: ModelConfig, seed: number, parameter: Parameter): Float32Array => {
  const size = parameter.shape.reduce((a, b) => a * b, 1)
  if (parameter.shape.length === 1) return new Float32Array(size).fill(1)
  const residual = parameter.name.endsWith("o_proj.weight") || parameter.name.endsWith("down_proj.weight")
  const std = 0.02 / (residual ? Math.sqrt(2 * config.layers) : 1)
  const random = Random.make(seed, "initial", parameter.name)
  return Float32Array.from({ length: size }, () => std * random.normal())
}
