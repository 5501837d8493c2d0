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
