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
import * as Quantize from "../onnx/Quantize.ts"
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
   * many tokens, where two skinny products cost more than one dense one. `steady` is `factored` for few tokens, with
   * sums in the same order however many rows there are.
   */
  readonly adaptation?: "factored" | "merged" | "steady"
  /** A frozen linear map in 8 bits, if it has been quantised, for one use of it. */
  readonly quantized?: (path: string) => (() => QuantizedMap) | undefined
}

/** A linear map in 8 bits: int8 [in, out] with a scale for each output, [out]. */
export interface QuantizedMap {
  readonly weight: Value
  readonly scale: Value
}

/** The network's results. */
export interface Output {
  /** After the last norm, [B, T, hidden]. */
  readonly hidden: Value
  /** The keys and values of these tokens for each layer, [B, kvHeads, T, headDim]; none with `whole`. */
  readonly keys: ReadonlyArray<Value>
  readonly values: ReadonlyArray<Value>
}

/** The LoRA of a map whose sum with the frozen weight is made first; one with quantised weights would lose them. */
const mergedLora = ({ adaptation, lora, quantized }: Parameters, path: string) =>
  adaptation === "merged" && quantized?.(path) === undefined ? lora?.(path) : undefined

/** A linear map without its bias: x [..., in] to [..., out]. */
const product = (parameters: Parameters, path: string, weight: string, x: Value): Value => {
  const quantized = parameters.quantized?.(path)
  if (quantized !== undefined) {
    const { scale, weight } = quantized()
    return Quantize.matmul(x, weight, scale)
  }
  const w = parameters.weight(weight)
  const lora = mergedLora(parameters, path)
  const sum = lora === undefined ? w : Op.add(w, Op.matmul(lora.b, lora.a, { alpha: lora.scale }))
  return Op.matmul(x, sum, { transB: true })
}

/**
 * Linear maps of the same x. In 8 bits and for few tokens, queries, keys and values are one product, as what surrounds
 * it costs more. The two maps of a feed-forward layer are not: for many tokens, taking their wide result apart costs
 * more than it saves.
 */
const products = (parameters: Parameters, paths: ReadonlyArray<string>, x: Value): ReadonlyArray<Value> => {
  const quantized = paths.flatMap((path) => parameters.quantized?.(path) ?? [])
  if (parameters.adaptation !== "steady" || paths.length < 3 || quantized.length < paths.length) {
    return paths.map((path) => product(parameters, path, `${path}.weight`, x))
  }
  const parts = quantized.map((use) => use())
  const [weights, scales] = [parts.map((part) => part.weight), parts.map((part) => part.scale)]
  const joined = Quantize.matmul(x, Op.concat(weights, 1), Op.concat(scales, 0))
  return Op.split(joined, -1, widths(scales))
}

/** x [B, T, in] by the first factors [r, in] of LoRAs: [B, T, r] of each. */
const reductions = (parameters: Parameters, factors: ReadonlyArray<Value>, x: Value): ReadonlyArray<Value> => {
  if (parameters.adaptation === "steady") return factors.map((a) => reduced(x, a))
  // Learning multiplies many tokens: one wider product, and a wider one for each gradient, instead of several thin ones.
  if (parameters.adaptation === "factored" && factors.length > 1) {
    return Op.split(Op.matmul(x, Op.concat(factors, 0), { transB: true }), -1, widths(factors))
  }
  return factors.map((a) => Op.matmul(x, a, { transB: true }))
}

const widths = (values: ReadonlyArray<Value>): ReadonlyArray<number> => values.map(({ shape }) => Number(shape[0]))

/** Rows of a factor that are multiplied at a time. */
const part = 16

/**
 * x [B, T, in] by a first factor [r, in]: [B, T, r]. In parts of 16, the last filled up with zeros: the runtime cuts a
 * wider product among its threads as the number of rows suggests, and where it is cut, sums are rounded in another
 * order.
 */
const reduced = (x: Value, a: Value): Value => {
  const [rank, width] = a.shape as [number, number]
  if (rank <= part) return Op.matmul(x, a, { transB: true })
  const [B, T] = [x.shape[0]!, x.shape[1]!]
  const missing = (part - (rank % part)) % part
  const zeros = new Float32Array(missing * width)
  const whole = missing === 0 ? a : Op.concat([a, Graph.constant(a.graph, "float32", [missing, width], zeros)], 0)
  const factors = Op.reshape(whole, [(rank + missing) / part, part, width])
  const products = Op.matmul(Op.reshape(x, [B, 1, T, width]), factors, { transB: true })
  const low = Op.reshape(Op.transpose(products, [0, 2, 1, 3]), [B, T, rank + missing])
  return missing === 0 ? low : Op.split(low, -1, [rank, missing])[0]!
}

/** Terms that the runtime sums in one piece, however a product is cut. */
const piece = 128

/** The result of a first factor [B, T, r] by a second one [out, r]: [B, T, out]; `steady` in pieces of the rank. */
const raised = (parameters: Parameters, low: Value, b: Value, scale: number): Value => {
  const by = (low: Value, b: Value) => Op.matmul(low, b, { transB: true, alpha: scale })
  const rank = Number(b.shape[1])
  if (parameters.adaptation !== "steady" || rank <= piece) return by(low, b)
  const sizes = Array.from({ length: Math.ceil(rank / piece) }, (_, i) => Math.min(piece, rank - i * piece))
  const factors = Op.split(b, 1, sizes)
  const products = Op.split(low, -1, sizes).map((part, i) => by(part, factors[i]!))
  return products.reduce((sum, product) => Op.add(sum, product))
}

/** Linear maps of the same x [B, T, in], with their biases and LoRAs if they have any: [B, T, out] of each. */
const linears = (
  parameters: Parameters,
  paths: ReadonlyArray<string>,
  biased: boolean,
  x: Value
): ReadonlyArray<Value> => {
  const adapted = paths.flatMap((path) => {
    const lora = mergedLora(parameters, path) === undefined ? parameters.lora?.(path) : undefined
    return lora === undefined ? [] : [{ ...lora, path }]
  })
  const factors = adapted.map(({ a }) => a)
  const low = reductions(parameters, factors, x)
  const updates = new Map(adapted.map(({ b, path, scale }, i) => [path, raised(parameters, low[i]!, b, scale)]))
  return products(parameters, paths, x).map((frozen, i) => {
    const update = updates.get(paths[i]!)
    const y = update === undefined ? frozen : Op.add(frozen, update)
    return biased ? Op.add(y, parameters.weight(`${paths[i]}.bias`)) : y
  })
}

/** Adds the network to the graph of `input.ids`. The rotary tables have `maxPositions` rows. */
export const build = (config: ModelConfig, parameters: Parameters, input: Input, maxPositions: number): Output => {
  const graph = input.ids.graph
  const { fused, normOffset, norms, queryKeyNorms, scaledEmbedding } = Family.families[config.family]
  const { biases, headDim, intermediateSize } = config
  const [queryWidth, keyWidth] = [config.heads * headDim, config.kvHeads * headDim]
  const rotate = rotary(graph, config, input.positions, maxPositions)
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
    const maps = (...names: ReadonlyArray<string>) => {
      const paths = names.map((name) => `${of}.${name}`)
      return linears(parameters, paths, biases.qkv, x)
    }
    const [q, k, v] = fused
      ? Op.split(maps("qkv_proj")[0]!, -1, [queryWidth, keyWidth, keyWidth])
      : maps("q_proj", "k_proj", "v_proj")
    const query = rotate(normHeads(q!, of, "q_norm"), layer)
    const key = rotate(normHeads(k!, of, "k_norm"), layer)
    const attended = attend(layer, query, key, v!)
    if (attended.keys !== undefined) keys.push(attended.keys)
    if (attended.values !== undefined) values.push(attended.values)
    return linears(parameters, [`${of}.o_proj`], biases.output, attended.mixed)[0]!
  }

  const feedForward = (x: Value, path: string): Value => {
    const maps = (input: Value, ...names: ReadonlyArray<string>) => {
      const paths = names.map((name) => `${path}.mlp.${name}`)
      return linears(parameters, paths, biases.mlp, input)
    }
    const [gate, up] = fused
      ? Op.split(maps(x, "gate_up_proj")[0]!, -1, [intermediateSize, intermediateSize])
      : maps(x, "gate_proj", "up_proj")
    return maps(Op.mul(activations[config.activation](gate!), up!), "down_proj")[0]!
  }

  const embedded = rowsOf(parameters, "model.embed_tokens.weight", input.ids)
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

/** The output projection W [vocabulary, hidden]. */
export interface Projection {
  /** h Wᵀ: [..., hidden] to [..., vocabulary]. */
  readonly logits: (hidden: Value) => Value
  /** Its rows of some tokens, int64 [N] to [N, hidden]. */
  readonly rows: (tokens: Value) => Value
  /** p W, the row that is to be expected of tokens with probabilities p: [N, vocabulary] to [N, hidden]. */
  readonly expected: (probabilities: Value) => Value
}

/** The output projection of a network, in 8 bits where it has been quantised, except for the rows of given tokens. */
export const projection = (config: ModelConfig, parameters: Parameters): Projection => {
  const name = config.tieEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"
  return {
    logits: (hidden) => product(parameters, "lm_head", name, hidden),
    rows: (tokens) => rowsOf(parameters, name, tokens),
    expected: (probabilities) => {
      const quantized = parameters.quantized?.("lm_head")?.()
      const rough = quantized && Quantize.mixture(probabilities, quantized.weight, quantized.scale)
      return rough ?? Op.matmul(probabilities, parameters.weight(name))
    }
  }
}

/** Rows of a tensor by index. */
const rowsOf = (parameters: Parameters, name: string, at: Value): Value =>
  parameters.rows?.(name, at) ?? Op.gather(parameters.weight(name), at)

/** The logits of hidden states: [..., hidden] to [..., vocabulary]. */
export const logits = (config: ModelConfig, parameters: Parameters, hidden: Value): Value => {
  const plain = projection(config, parameters).logits(hidden)
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
