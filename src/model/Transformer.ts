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
import * as Family from "./Family.ts"
import type { ModelConfig } from "./ModelConfig.ts"
import * as Rope from "./Rope.ts"

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
   * many tokens, where two skinny products cost more than one dense one.
   */
  readonly adaptation?: "factored" | "merged"
  /** A frozen linear map in 8 bits, if it has been quantised: int8 [in, out] with a scale for each output, [out]. */
  readonly quantized?: (path: string) => { readonly weight: Value; readonly scale: Value } | undefined
}

/** What the past adds to a decoding step. */
export interface Past {
  /** Keys and values of each layer, [B, kvHeads, M, headDim]; column m is the token at position m. */
  readonly keys: ReadonlyArray<Value>
  readonly values: ReadonlyArray<Value>
  /** 0 where a row's past holds a token and a large negative number elsewhere, [B, 1, 1, M]. */
  readonly mask: Value
  /** [M, T] as int64, for splitting the attention weights. */
  readonly sizes: Value
}

/** The network's input. */
export interface Input {
  /** int64 [B, T], padded on the right. */
  readonly ids: Value
  /** int64 [B, T]. */
  readonly positions: Value
  /**
   * 0 where a token sees another one and a large negative number elsewhere: [T, T] for all rows alike, or [B, 1, T, T],
   * for example for several sequences in a row. Layers with a window see of it what is within the window.
   */
  readonly mask: Value | undefined
  readonly past?: Past
  /**
   * Sizes for attention in one operator, which has no gradient, knows no past and takes no mask but the causal one:
   * int32 [B] = T − 1, and int32 [] = T. There is no `mask` then.
   */
  readonly whole?: { readonly last: Value; readonly total: Value }
}

/** The network's results. */
export interface Output {
  /** After the last norm, [B, T, hidden]. */
  readonly hidden: Value
  /** The keys and values of these tokens for each layer, [B, kvHeads, T, headDim]; none with `whole`. */
  readonly keys: ReadonlyArray<Value>
  readonly values: ReadonlyArray<Value>
}

/** What stands for minus infinity in masks: far below any score, and finite, so that no row of softmax is NaN. */
export const masked = -1e9

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
    const low = Op.matmul(x, lora.a, { transB: true, alpha: lora.scale })
    return Op.add(product(parameters, path, `${path}.weight`, x), Op.matmul(low, lora.b, { transB: true }))
  })()
  return biased ? Op.add(y, parameters.weight(`${path}.bias`)) : y
}

/** Adds the network to the graph of `input.ids`. `maxPositions` bounds the rotary tables. */
export const build = (config: ModelConfig, parameters: Parameters, input: Input, maxPositions: number): Output => {
  const graph = input.ids.graph
  const { fused, normOffset, norms, queryKeyNorms, scaledEmbedding } = Family.families[config.family]
  const { biases, headDim, intermediateSize } = config
  const [queryWidth, keyWidth] = [config.heads * headDim, config.kvHeads * headDim]
  const rotate = rotary(graph, config, input.positions, Math.min(maxPositions, config.maxPositions))
  const masks = maskings(config, input)
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
    const turned = rotate(normHeads(k!, of, "k_norm"), layer)
    const mixed = ((): Value => {
      if (input.whole !== undefined) {
        const { last, total } = input.whole
        const { attentionScale: scale } = config
        const { window } = config.attention[layer]!
        return Op.causalAttention(query, turned, v!, last, total, {
          heads: config.heads,
          kvHeads: config.kvHeads,
          scale,
          window
        })
      }
      const key = heads(turned, config.kvHeads, headDim)
      const value = heads(v!, config.kvHeads, headDim)
      keys.push(key)
      values.push(value)
      const attended = attend(config, input, layer, stack(query, input, config), key, value, masks(layer))
      return unstack(attended, input, config)
    })()
    return linear(parameters, `${of}.o_proj`, biases.output, mixed)
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

/** What is added to the scores of stacked queries, for these tokens and for the past. */
interface Masking {
  /** [group·T, T] or [B, 1, group·T, T]. */
  readonly own: Value
  /** [B, 1, 1, M] or [B, 1, group·T, M]. */
  readonly past: Value | undefined
}

/** The masks of each layer; layers with the same window share theirs. */
const maskings = (config: ModelConfig, input: Input): ((layer: number) => Masking) => {
  const group = config.heads / config.kvHeads
  // Query heads that share a key head are stacked along the tokens, so each key head takes part in one product.
  const stackedMask = (mask: Value): Value =>
    group === 1 ? mask : Op.concat(Array<Value>(group).fill(mask), mask.shape.length - 2, stacked(input, group))
  const made = new Map<number | undefined, Masking>()
  return (layer) => {
    const { window } = config.attention[layer]!
    const known = made.get(window)
    if (known !== undefined) return known
    const { past } = input
    const mask = input.mask ?? Graph.fail(input.ids.graph, "attention", [input.ids], "it needs a mask")
    const masking =
      window === undefined
        ? { own: stackedMask(mask), past: past?.mask }
        : {
            own: stackedMask(Op.add(mask, beyond(input, keyPositions(input.positions), window))),
            past: past && stackedMask(Op.add(past.mask, beyond(input, columns(past.mask), window)))
          }
    made.set(window, masking)
    return masking
  }
}

/** A large negative number where a key [B, 1, 1, K] is `window` positions or more before a query: [B, 1, T, K]. */
const beyond = ({ ids, positions }: Input, keyPosition: Value, window: number): Value => {
  const [B, T] = [ids.shape[0]!, ids.shape[1]!]
  const queryPosition = Op.reshape(Op.cast(positions, "float32"), [B, 1, T, 1])
  const far = Op.greaterOrEqual(Op.sub(queryPosition, keyPosition), Graph.scalar(ids.graph, window))
  return Op.where(far, Graph.scalar(ids.graph, masked), Graph.scalar(ids.graph, 0))
}

/** Positions [B, T] as those of keys, [B, 1, 1, T]. */
const keyPositions = (positions: Value): Value =>
  Op.reshape(Op.cast(positions, "float32"), [positions.shape[0]!, 1, 1, positions.shape[1]!])

/** 0, 1, … along the last axis of a mask [B, 1, 1, M]. */
const columns = (mask: Value): Value => Op.shift(Op.cumsum(Op.shift(Op.zerosLike(mask), 1)), -1)

const stacked = (input: Input, group: number): Dim => `${group}*${input.ids.shape[1]}`

/** [B, T, heads·d] to [B, heads, T, d]. */
const heads = (x: Value, count: number, width: number): Value =>
  Op.transpose(Op.reshape(x, [x.shape[0]!, x.shape[1]!, count, width]), [0, 2, 1, 3])

/** Queries [B, T, heads·d] to [B, kvHeads, group·T, d]. */
const stack = (q: Value, input: Input, config: ModelConfig): Value => {
  const group = config.heads / config.kvHeads
  if (group === 1) return heads(q, config.heads, config.headDim)
  const [B, T] = [q.shape[0]!, q.shape[1]!]
  const apart = Op.transpose(Op.reshape(q, [B, T, config.kvHeads, group, config.headDim]), [0, 2, 3, 1, 4])
  return Op.reshape(apart, [B, config.kvHeads, stacked(input, group), config.headDim])
}

/** [B, kvHeads, group·T, d] back to [B, T, heads·d]. */
const unstack = (x: Value, input: Input, config: ModelConfig): Value => {
  const group = config.heads / config.kvHeads
  const [B, T] = [input.ids.shape[0]!, input.ids.shape[1]!]
  const width = config.heads * config.headDim
  if (group === 1) return Op.reshape(Op.transpose(x, [0, 2, 1, 3]), [B, T, width])
  const apart = Op.reshape(x, [B, config.kvHeads, group, T, config.headDim])
  return Op.reshape(Op.transpose(apart, [0, 3, 1, 2, 4]), [B, T, width])
}

/** Softmax attention over the past, if there is one, and over the tokens themselves. */
const attend = (
  config: ModelConfig,
  input: Input,
  layer: number,
  q: Value,
  k: Value,
  v: Value,
  masking: Masking
): Value => {
  const alpha = config.attentionScale
  const own = Op.add(Op.matmul(q, k, { transB: true, alpha }), masking.own)
  const { past } = input
  if (past === undefined) return Op.matmul(Op.softmax(own), v)
  const before = Op.add(Op.matmul(q, past.keys[layer]!, { transB: true, alpha }), masking.past!)
  const M = past.mask.shape[3]!
  const weights = Op.softmax(Op.concat([before, own], 3, `${M}+${input.ids.shape[1]}`))
  const [onPast, onOwn] = Op.splitBy(weights, 3, past.sizes, [M, input.ids.shape[1]!])
  return Op.add(Op.matmul(onPast!, past.values[layer]!), Op.matmul(onOwn!, v))
}
