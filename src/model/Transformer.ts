/**
 * Transformer: a decoder-only network as nodes of a graph.
 *
 * One definition gives every program: without a past it scores and learns, with one it decodes. Where a weight comes
 * from (the checkpoint, a trainable vector) and which linear maps carry a LoRA is the caller's choice, so frozen,
 * adapted and fully trained networks are the same code.
 *
 * All families (see `Family.ts`) are blocks of grouped-query attention (Ainslie et al. 2023) and a gated feed-forward
 * layer (Shazeer 2020) around a residual stream; what a family does not have adds no node.
 */
import * as Graph from "../onnx/Graph.ts"
import type { Dim, Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import * as Attention from "./Attention.ts"
import * as Family from "./Family.ts"
import type { ModelConfig } from "./ModelConfig.ts"
import * as Rope from "./Rope.ts"

/** What the network reads, and what stands for minus infinity in its masks. */
export type Input = Attention.Input
export const masked = Attention.masked

/** The parameters of a network, by the names of its checkpoint. */
export interface Parameters {
  /** A tensor of the checkpoint. */
  readonly weight: (name: string) => Value
  /** Rows of a tensor by index, where there is a cheaper way than through the whole of it. */
  readonly rows?: (name: string, at: Value) => Value
  /** The two factors of a linear map's LoRA, if it has one: A [r, in], B [out, r]. */
  readonly lora?: (path: string) => { readonly a: Value; readonly b: Value; readonly scale: number } | undefined
  /**
   * How adapted maps are computed: `factored` adds B(Ax), good for few tokens; `merged` makes W + BA first, good for
   * many tokens, where two skinny products cost more than one dense one. `steady` is `factored` with sums in the same
   * order however many rows there are.
   */
  readonly adaptation?: "factored" | "merged" | "steady"
  /** A frozen linear map in 8 bits, if it has been quantised: int8 [in, out] with a scale for each output, [out]. */
  readonly quantized?: (path: string) => { readonly weight: Value; readonly scale: Value } | undefined
}

/** The network's results. */
export interface Output {
  /** After the last norm, [B, T, hidden]. */
  readonly hidden: Value
  /** The keys and values of these tokens for each layer, [B, kvHeads, T, headDim]; none with `whole`. */
  readonly keys: ReadonlyArray<Value>
  readonly values: ReadonlyArray<Value>
}

/** Codes of values that several maps share, such as the queries', keys' and values'. */
const codes = new WeakMap<Value, Op.QuantizedRows>()

/** A frozen linear map without its bias: x [..., in] to [..., out]. */
const product = (parameters: Parameters, path: string, weight: string, x: Value): Value => {
  const quantized = parameters.quantized?.(path)
  if (quantized === undefined) return Op.matmul(x, parameters.weight(weight), { transB: true })
  const rows = codes.get(x) ?? Op.quantizeRows(x)
  codes.set(x, rows)
  return Op.matmulQuantized(rows, quantized.weight, quantized.scale)
}

/** A linear map, with its LoRA if it has one: x [..., in] to [..., out]. */
const linear = (parameters: Parameters, path: string, biased: boolean, x: Value): Value => {
  const lora = parameters.lora?.(path)
  const y = ((): Value => {
    if (lora === undefined) return product(parameters, path, `${path}.weight`, x)
    // A sum with quantised weights would have to be quantised anew.
    if (parameters.adaptation === "merged" && parameters.quantized?.(path) === undefined) {
      const w = parameters.weight(`${path}.weight`)
      return Op.matmul(x, Op.add(w, Op.matmul(lora.b, lora.a, { alpha: lora.scale })), { transB: true })
    }
    const steady = parameters.adaptation === "steady"
    const low = steady ? reduced(x, lora.a, lora.scale) : Op.matmul(x, lora.a, { transB: true, alpha: lora.scale })
    return Op.add(product(parameters, path, `${path}.weight`, x), Op.matmul(low, lora.b, { transB: true }))
  })()
  return biased ? Op.add(y, parameters.weight(`${path}.bias`)) : y
}

/**
 * x [B, T, in] by the first factor [r, in]: [B, T, r]. In parts of 16: the runtime cuts a wider product among its
 * threads as the number of rows suggests, and where it is cut, sums are rounded in another order.
 */
const reduced = (x: Value, a: Value, alpha: number): Value => {
  const [rank, width] = a.shape as [number, number]
  if (rank <= 16 || rank % 16 !== 0) return Op.matmul(x, a, { transB: true, alpha })
  const [B, T] = [x.shape[0]!, x.shape[1]!]
  const factors = Op.reshape(a, [rank / 16, 16, width])
  const parts = Op.matmul(Op.reshape(x, [B, 1, T, width]), factors, { transB: true, alpha })
  return Op.reshape(Op.transpose(parts, [0, 2, 1, 3]), [B, T, rank])
}

/** Adds the network to the graph of `input.ids`. `maxPositions` bounds the rotary tables. */
export const build = (config: ModelConfig, parameters: Parameters, input: Input, maxPositions: number): Output => {
  const graph = input.ids.graph
  const { fused, normOffset, norms, queryKeyNorms, scaledEmbedding } = Family.families[config.family]
  const { biases, headDim, intermediateSize } = config
  const [queryWidth, keyWidth] = [config.heads * headDim, config.kvHeads * headDim]
  const rotate = rotary(graph, config, input.positions, Math.min(maxPositions, config.maxPositions))
  const attend = Attention.make(config, input)
  const keys: Array<Value> = []
  const values: Array<Value> = []

  /** The norm of a name, where the family has one at this place. */
  const norm = (x: Value, layer: string, name: string | undefined): Value => {
    if (name === undefined) return x
    const weight = parameters.weight(`${layer}.${name}.weight`)
    return Op.rmsNorm(x, normOffset === 0 ? weight : Op.shift(weight, normOffset), config.normEps)
  }
  /** The norm of queries or keys [B, T, heads·d], where the family has one. */
  const normHeads = (x: Value, layer: string, name: string): Value => {
    if (queryKeyNorms === "none") return x
    if (queryKeyNorms === "width") return norm(x, layer, name)
    const [B, T, width] = x.shape as [Dim, Dim, number]
    const apart = Op.reshape(x, [B, T, width / headDim, headDim])
    return Op.reshape(norm(apart, layer, name), [B, T, width])
  }

  const attention = (x: Value, path: string, layer: number): Value => {
    const of = `${path}.self_attn`
    const map = (name: string) => linear(parameters, `${of}.${name}`, biases.qkv, x)
    const [q, k, v] = fused
      ? Op.split(map("qkv_proj"), -1, [queryWidth, keyWidth, keyWidth])
      : [map("q_proj"), map("k_proj"), map("v_proj")]
    const query = rotate(normHeads(q!, of, "q_norm"), layer)
    const key = rotate(normHeads(k!, of, "k_norm"), layer)
    const attended = attend(layer, query, key, v!)
    if (attended.keys !== undefined) keys.push(attended.keys)
    if (attended.values !== undefined) values.push(attended.values)
    return linear(parameters, `${of}.o_proj`, biases.output, attended.mixed)
  }

  const feedForward = (x: Value, path: string): Value => {
    const map = (name: string) => linear(parameters, `${path}.mlp.${name}`, biases.mlp, x)
    const [gate, up] = fused
      ? Op.split(map("gate_up_proj"), -1, [intermediateSize, intermediateSize])
      : [map("gate_proj"), map("up_proj")]
    const gated = Op.mul(activations[config.activation](gate!), up!)
    return linear(parameters, `${path}.mlp.down_proj`, biases.mlp, gated)
  }

  const table = "model.embed_tokens.weight"
  const embedded = parameters.rows?.(table, input.ids) ?? Op.gather(parameters.weight(table), input.ids)
  let x = scaledEmbedding ? Op.scale(embedded, Math.sqrt(config.hiddenSize)) : embedded
  for (let layer = 0; layer < config.layers; layer++) {
    const path = `model.layers.${layer}`
    x = Graph.labelled(graph, `layer${layer}`, () => {
      const attended = attention(norm(x, path, norms.beforeAttention), path, layer)
      const middle = Op.add(x, norm(attended, path, norms.afterAttention))
      const fed = feedForward(norm(middle, path, norms.beforeMlp), path)
      return Op.add(middle, norm(fed, path, norms.afterMlp))
    })
  }
  return { hidden: norm(x, "model", "norm"), keys, values }
}

/** The logits of hidden states: [..., hidden] to [..., vocabulary]. */
export const logits = (config: ModelConfig, parameters: Parameters, hidden: Value): Value => {
  const weight = config.tieEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"
  const plain = product(parameters, "lm_head", weight, hidden)
  const cap = config.logitSoftCap
  return cap === undefined ? plain : Op.scale(Op.tanh(Op.scale(plain, 1 / cap)), cap)
}

const activations: Readonly<Record<ModelConfig["activation"], (x: Value) => Value>> = {
  silu: Op.silu,
  gelu_pytorch_tanh: Op.geluTanh
}

/** Turns queries or keys [B, T, heads·d] of a layer by their positions, where the layer does so. */
const rotary = (
  graph: Graph.Graph,
  config: ModelConfig,
  positions: Value,
  maxPositions: number
): ((x: Value, layer: number) => Value) => {
  const tables = new Map<string, { readonly cos: Value; readonly sin: Value }>()
  const tablesOf = (rope: Rope.Rope) => {
    const key = JSON.stringify(rope)
    const known = tables.get(key)
    if (known !== undefined) return known
    const { cos, sin } = Rope.tables(rope, maxPositions)
    const shape = [maxPositions, rope.dims / 2]
    const made = {
      cos: Graph.constant(graph, "float32", shape, cos),
      sin: Graph.constant(graph, "float32", shape, sin)
    }
    tables.set(key, made)
    return made
  }
  return (x, layer) => {
    const { rope } = config.attention[layer]!
    if (rope === undefined) return x
    const { cos, sin } = tablesOf(rope)
    const partial =
      rope.dims === config.headDim ? undefined : { heads: Number(x.shape[2]) / config.headDim, dims: rope.dims }
    return Op.rotary(x, positions, cos, sin, partial)
  }
}
