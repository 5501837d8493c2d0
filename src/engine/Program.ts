/**
 * Program: what the decoding, scoring and learning graphs have in common.
 *
 * Frozen weights are external data inside the user's own safetensors files; adapters are inputs, so that one compiled
 * base serves them all.
 */
import * as path from "node:path"
import type { Checkpoint } from "../model/Checkpoint.ts"
import type { ModelConfig } from "../model/ModelConfig.ts"
import * as Transformer from "../model/Transformer.ts"
import * as Graph from "../onnx/Graph.ts"
import type { Dim, Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import * as Session from "../onnx/Session.ts"

const dtypes = { F32: "float32", F16: "float16", BF16: "bfloat16" } as const

/** External data is found relative to this folder: the root of the file system, as shards may lie in a shared cache. */
export const weightsFolder = "/"

/** The checkpoint's tensors as float32 values; half precision is widened once, when the graph is compiled. */
export const frozen = (graph: Graph.Graph, checkpoint: Checkpoint): ((name: string) => Value) => {
  const made = new Map<string, Value>()
  return (name) => {
    const known = made.get(name)
    if (known !== undefined) return known
    const info = checkpoint.tensors.get(name)
    if (info === undefined) return Graph.fail(graph, "weight", [], `the checkpoint has no ${name}`)
    const stored = Graph.external(graph, name, dtypes[info.dtype as keyof typeof dtypes], info.shape, {
      location: path.relative(weightsFolder, info.file),
      offset: info.offset,
      length: info.length
    })
    const value = info.dtype === "F32" ? stored : Op.cast(stored, "float32")
    made.set(name, value)
    return value
  }
}

/** Values that change a network: factors `*.lora_A` and `*.lora_B` of linear maps, and whole parameters by name. */
export interface Adapted {
  readonly values: ReadonlyMap<string, Value>
  /** The factor on B A of each adapted map, by its path. */
  readonly scales: ReadonlyMap<string, number>
}

/** A network with its parameters. */
export interface Network {
  readonly config: ModelConfig
  readonly parameters: Transformer.Parameters
}

/** The checkpoint's network with what changes it. */
export const network = (
  graph: Graph.Graph,
  checkpoint: Checkpoint,
  { scales, values }: Adapted,
  adaptation: "factored" | "merged"
): Network => {
  const { config } = checkpoint
  const stored = frozen(graph, checkpoint)
  // An output projection of its own ends its tie to the embedding.
  const untied = config.tieEmbeddings && values.has(projection)
  return {
    config: untied ? { ...config, tieEmbeddings: false } : config,
    parameters: {
      weight: (name) => values.get(name) ?? stored(name),
      lora: (path) => {
        const a = values.get(`${path}.lora_A`)
        const b = values.get(`${path}.lora_B`)
        return a === undefined || b === undefined ? undefined : { a, b, scale: scales.get(path)! }
      },
      adaptation
    }
  }
}

const projection = "lm_head.weight"

/** The network's inputs in a graph, for padded batches [B, T]. */
export const tokenInputs = (graph: Graph.Graph): Transformer.Input => ({
  ids: Graph.input(graph, "ids", "int64", ["B", "T"]),
  positions: Graph.input(graph, "positions", "int64", ["B", "T"]),
  mask: Graph.input(graph, "causal", "float32", ["T", "T"])
})

/** The causal mask of `length` tokens. */
export const causalMask = (length: number): Float32Array => {
  const mask = new Float32Array(length * length)
  for (let q = 0; q < length; q++) mask.fill(Transformer.masked, q * length + q + 1, (q + 1) * length)
  return mask
}

/** Token rows padded on the right to one length, as the feeds of `tokenInputs`. */
export const tokenFeeds = (
  rows: ReadonlyArray<ReadonlyArray<number>>,
  padTo: number = Math.max(...rows.map((r) => r.length))
): Session.Feeds => {
  const ids = new BigInt64Array(rows.length * padTo)
  const positions = new BigInt64Array(rows.length * padTo)
  rows.forEach((row, b) => {
    for (let t = 0; t < padTo; t++) {
      ids[b * padTo + t] = BigInt(row[t] ?? 0)
      positions[b * padTo + t] = BigInt(t)
    }
  })
  return {
    ids: new Session.Tensor("int64", ids, [rows.length, padTo]),
    positions: new Session.Tensor("int64", positions, [rows.length, padTo]),
    causal: Session.float32(causalMask(padTo), [padTo, padTo])
  }
}

/** Rows of hidden states [B, T, H] at flat indices b·T + t, int64 [N]: [N, H]. */
export const pick = (hidden: Value, at: Value): Value => {
  const [B, T, H] = hidden.shape as [Dim, Dim, Dim]
  return Op.gather(Op.reshape(hidden, [`${B}*${T}`, H]), at)
}

/**
 * A scalar head without bias: [N, H] by [1, H] to [N].
 *
 * A sum of products and not a matrix product: the runtime multiplies a single row by another kernel than several, and a
 * score must not depend on what else is in the batch.
 */
export const head = (hidden: Value, weight: Value): Value => Op.sum(Op.mul(hidden, weight), [1])
