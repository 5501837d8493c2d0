/** Memory: what a model takes, by its shape and by how its weights lie in their files. */
import type { Checkpoint } from "./Checkpoint.ts"
import type { ModelConfig } from "./ModelConfig.ts"
import { linears, parameters } from "./ModelConfig.ts"

const product = (shape: ReadonlyArray<number>): number => shape.reduce((a, b) => a * b, 1)

/** The number of parameters, a tied head counted once. */
export const parameterCount = (config: ModelConfig): number => {
  let count = 0
  for (const shape of parameters(config).values()) count += product(shape)
  return count
}

/** Bytes of the weights in 32-bit floats. */
export const fp32Bytes = (config: ModelConfig): number => 4 * parameterCount(config)

/**
 * Bytes of the weights where linear maps and the head are int8 with a float32 scale for each output, and everything
 * else is as it lies in the checkpoint.
 */
export const int8Bytes = ({ config, tensors }: Checkpoint): number => {
  let bytes = 0
  for (const name of parameters(config).keys()) bytes += tensors.get(name)!.length
  const head = { in: config.hiddenSize, out: config.vocabSize }
  for (const linear of [...linears(config), head]) {
    bytes += linear.in * linear.out + 4 * linear.out
    if ("path" in linear) bytes -= tensors.get(`${linear.path}.weight`)!.length
    else if (!config.tieEmbeddings) bytes -= tensors.get("lm_head.weight")!.length
  }
  return bytes
}

/** Bytes of the keys and values of one token. */
export const cacheBytesPerToken = ({ headDim, kvHeads, layers }: ModelConfig): number =>
  2 * 4 * layers * kvHeads * headDim

/** Tokens of a scoring run, its padding included, unless the engine is told otherwise. */
export const scoringTokens = 2048

/** What the program itself takes: two threads of JavaScript, a tokenizer, the runtime and its compiled graphs. */
const program = 350e6

/**
 * About how many bytes `charter score` has resident at most.
 *
 * In fp32 the weights stay mapped as they are stored, and the output projection is widened and kept; in int8 the
 * linear maps are packed. To that comes a run of {@link scoringTokens}: hidden states, the feed-forward layer, the
 * scores of attention in rows of up to 1,024 tokens, and logits of 48 MB.
 */
export const scoringBytes = (checkpoint: Checkpoint, precision: "fp32" | "int8"): number => {
  const { config, tensors } = checkpoint
  const head = 4 * config.hiddenSize * config.vocabSize
  let stored = 0
  for (const name of parameters(config).keys()) stored += tensors.get(name)!.length
  const embedding = tensors.get("model.embed_tokens.weight")!.length
  // Of the embedding only the rows of tokens are read, and the projection is a copy of its own.
  const weights = precision === "fp32" ? stored - embedding + head : int8Bytes(checkpoint) - embedding
  const row = 6 * config.hiddenSize + 4 * config.intermediateSize + 1024 * config.heads
  return program + weights + 4 * scoringTokens * row + 48e6
}
