/**
 * Program: what the decoding, scoring and learning graphs have in common.
 *
 * Frozen weights are external data inside the user's own safetensors files; adapters are inputs, so that one compiled
 * base serves them all.
 */
import * as path from "node:path"
import type { Checkpoint } from "../model/Checkpoint.ts"
import type { ModelConfig } from "../model/ModelConfig.ts"
import type { Quantized } from "../model/Quantized.ts"
import * as Ragged from "../model/Ragged.ts"
import type { TensorInfo } from "../model/Safetensors.ts"
import * as Transformer from "../model/Transformer.ts"
import * as Graph from "../onnx/Graph.ts"
import type { Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import * as Session from "../onnx/Session.ts"
import type { Base } from "./Base.ts"

const dtypes = { F32: "float32", F16: "float16", BF16: "bfloat16", I8: "int8" } as const

/** External data is found relative to this folder: the root of the file system, as shards may lie in a shared cache. */
export const weightsFolder = "/"

const mapped = (graph: Graph.Graph, name: string, info: TensorInfo): Value =>
  Graph.external(graph, name, dtypes[info.dtype as keyof typeof dtypes], info.shape, {
    location: path.relative(weightsFolder, info.file),
    offset: info.offset,
    length: info.length
  })

/**
 * The quantised maps' values, by path. Each use has tensors of its own, which are the same part of a file: where the
 * runtime turns signed bytes into unsigned ones, it cannot do so for two products of one tensor.
 */
const integers = (graph: Graph.Graph, quantized: Quantized) => {
  let uses = 0
  return (path: string) => {
    const matrix = quantized.get(path)
    if (matrix === undefined) return undefined
    return () => {
      const use = uses++
      return {
        weight: mapped(graph, `${path}.weight:int8 ${use}`, matrix.weight),
        scale: mapped(graph, `${path}.scale:int8 ${use}`, matrix.scale)
      }
    }
  }
}

/** The checkpoint's tensors as values, by name. */
const tensors = (graph: Graph.Graph, checkpoint: Checkpoint) => {
  const stored = new Map<string, Value>()
  const wide = new Map<string, Value>()
  const asStored = (name: string): Value => {
    const known = stored.get(name)
    if (known !== undefined) return known
    const info = checkpoint.tensors.get(name)
    if (info === undefined) return Graph.fail(graph, "weight", [], `the checkpoint has no ${name}`)
    const value = mapped(graph, name, info)
    stored.set(name, value)
    return value
  }
  return {
    /** As float32; what becomes of halves is the session's affair. */
    weight: (name: string): Value => {
      const value = wide.get(name) ?? widen(asStored(name))
      wide.set(name, value)
      return value
    },
    /** Rows by index; only they are widened. */
    rows: (name: string, at: Value): Value => widen(Op.gather(asStored(name), at))
  }
}

const widen = (x: Value): Value => (x.dtype === "float32" ? x : Op.cast(x, "float32"))

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

/** The checkpoint's network with what changes it; what is quantised is computed in 8 bits, without a gradient. */
export const network = (
  graph: Graph.Graph,
  checkpoint: Base,
  { scales, values }: Adapted,
  adaptation: NonNullable<Transformer.Parameters["adaptation"]>
): Network => {
  const { config } = checkpoint
  const stored = tensors(graph, checkpoint)
  const integer = checkpoint.quantized === undefined ? () => undefined : integers(graph, checkpoint.quantized)
  const factors = new Map<string, Value | undefined>()
  const smoothing = (path: string): Value | undefined => {
    const info = checkpoint.quantized?.get(path)?.smoothing
    if (info !== undefined && !factors.has(path)) factors.set(path, mapped(graph, `${path}.smoothing`, info))
    return factors.get(path)
  }
  // An output projection of its own ends its tie to the embedding.
  const untied = config.tieEmbeddings && values.has(projection)
  return {
    config: untied ? { ...config, tieEmbeddings: false } : config,
    parameters: {
      weight: (name) => values.get(name) ?? stored.weight(name),
      rows: (name, at) => (values.has(name) ? Op.gather(values.get(name)!, at) : stored.rows(name, at)),
      lora: (path) => {
        const a = values.get(`${path}.lora_A`)
        const b = values.get(`${path}.lora_B`)
        return a === undefined || b === undefined ? undefined : { a, b, scale: scales.get(path)! }
      },
      quantized: (path) => (values.has(`${path}.weight`) ? undefined : integer(path)),
      smoothing,
      adaptation
    }
  }
}

const projection = "lm_head.weight"

/** The network's inputs in a graph, for batches [B, T] with one causal mask for all sequences. */
export const tokenInputs = (graph: Graph.Graph): Transformer.Input => ({
  ids: Graph.input(graph, "ids", "int64", ["B", "T"]),
  positions: Graph.input(graph, "positions", "int64", ["B", "T"]),
  mask: Graph.input(graph, "causal", "float32", ["T", "T"])
})

/** The network's inputs for sequences side by side, as a `Layout` feeds them that shares beginnings or does not. */
export const raggedInputs = (graph: Graph.Graph, shares: boolean): Transformer.Input => ({
  ids: Graph.input(graph, "ids", "int64", ["T", 1]),
  positions: Graph.input(graph, "positions", "int64", ["T", 1]),
  mask: Graph.input(graph, "seen", "float32", ["S", 1, "L", shares ? "K" : "L"]),
  ragged: Ragged.inputs(graph, shares)
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

/**
 * A scalar head without bias: [N, H] by [1, H] to [N].
 *
 * A sum of products and not a matrix product: the runtime multiplies a single row by another kernel than several, and a
 * score must not depend on what else is in the batch.
 */
export const head = (hidden: Value, weight: Value): Value => Op.sum(Op.mul(hidden, weight), [1])
