/**
 * Transformer: a decoder-only network as nodes of a graph.
 *
 * One definition gives every program: without a past it scores and learns, with one it decodes. Where a weight comes
 * from (the checkpoint, a trainable vector) and which linear maps carry a LoRA is the caller's choice, so frozen,
 * adapted and fully trained networks are the same code.
 *
 * Llama: pre-norm blocks of grouped-query attention with rotary positions and a SwiGLU (Touvron et al. 2023).
 */
import * as Graph from "../onnx/Graph.ts"
import type { Dim, Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import type { ModelConfig } from "./ModelConfig.ts"

/** The parameters of a network, by the names of its checkpoint. */
export interface Parameters {
  /** A tensor of the checkpoint. */
  readonly weight: (name: string) => Value
  /** The two factors of a linear map's LoRA, if it has one: A [r, in], B [out, r]. */
  readonly lora?: (path: string) => { readonly a: Value; readonly b: Value; readonly scale: number } | undefined
  /**
   * How adapted maps are computed: `factored` adds B(Ax), good for few tokens; `merged` makes W + BA first, good for
   * many tokens, where two skinny products cost more than one dense one.
   */
  readonly adaptation?: "factored" | "merged"
}

/** What the past adds to a decoding step. */
export interface Past {
  /** Keys and values of each layer, [B, kvHeads, M, headDim]. */
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
  /** 0 on and below the diagonal and a large negative number above, [T, T]. */
  readonly causal: Value
  readonly past?: Past
}

/** The network's results. */
export interface Output {
  /** After the last norm, [B, T, hidden]. */
  readonly hidden: Value
  /** The keys and values of these tokens for each layer, [B, kvHeads, T, headDim]. */
  readonly keys: ReadonlyArray<Value>
  readonly values: ReadonlyArray<Value>
}

/** What stands for minus infinity in masks: far below any score, and finite, so that no row of softmax is NaN. */
export const masked = -1e9

/** Cosines and sines of the rotary embedding, [positions, headDim / 2] (Su et al. 2021). */
export const rotaryTables = (config: ModelConfig, positions: number): { cos: Float32Array; sin: Float32Array } => {
  const half = config.headDim / 2
  const cos = new Float32Array(positions * half)
  const sin = new Float32Array(positions * half)
  for (let p = 0; p < positions; p++) {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(p * Math.fround(config.ropeTheta ** ((-2 * i) / config.headDim)))
      cos[p * half + i] = Math.cos(angle)
      sin[p * half + i] = Math.sin(angle)
    }
  }
  return { cos, sin }
}

/** A linear map, with its LoRA if it has one: x [..., in] to [..., out]. */
const linear = (parameters: Parameters, path: string, biased: boolean, x: Value): Value => {
  const w = parameters.weight(`${path}.weight`)
  const lora = parameters.lora?.(path)
  const y = ((): Value => {
    if (lora === undefined) return Op.matmul(x, w, { transB: true })
    if (parameters.adaptation === "merged") {
      return Op.matmul(x, Op.add(w, Op.matmul(lora.b, lora.a, { alpha: lora.scale })), { transB: true })
    }
    const low = Op.matmul(x, lora.a, { transB: true, alpha: lora.scale })
    return Op.add(Op.matmul(x, w, { transB: true }), Op.matmul(low, lora.b, { transB: true }))
  })()
  return biased ? Op.add(y, parameters.weight(`${path}.bias`)) : y
}

/** Adds the network to the graph of `input.ids`. `maxPositions` bounds the rotary tables. */
export const build = (config: ModelConfig, parameters: Parameters, input: Input, maxPositions: number): Output => {
  const graph = input.ids.graph
  const tables = rotaryTables(config, Math.min(maxPositions, config.maxPositions))
  const half = config.headDim / 2
  const cos = Graph.constant(graph, "float32", [tables.cos.length / half, half], tables.cos)
  const sin = Graph.constant(graph, "float32", [tables.sin.length / half, half], tables.sin)
  const group = config.heads / config.kvHeads
  // Query heads that share a key head are stacked along the tokens, so each key head takes part in one product.
  const causal = group === 1 ? input.causal : Op.concat(Array(group).fill(input.causal), 0, stacked(input, group))
  const keys: Array<Value> = []
  const values: Array<Value> = []

  let x = Op.gather(parameters.weight("model.embed_tokens.weight"), input.ids)
  for (let layer = 0; layer < config.layers; layer++) {
    const path = `model.layers.${layer}`
    x = Graph.labelled(graph, `layer${layer}`, () => {
      const normed = Op.rmsNorm(x, parameters.weight(`${path}.input_layernorm.weight`), config.normEps)
      const project = (name: string) => linear(parameters, `${path}.self_attn.${name}`, config.attentionBias, normed)
      const q = Op.rotary(project("q_proj"), input.positions, cos, sin)
      const k = heads(Op.rotary(project("k_proj"), input.positions, cos, sin), config.kvHeads, config.headDim)
      const v = heads(project("v_proj"), config.kvHeads, config.headDim)
      keys.push(k)
      values.push(v)
      const mixed = attention(config, input, layer, stack(q, input, config), k, v, causal)
      const attended = linear(
        parameters,
        `${path}.self_attn.o_proj`,
        config.attentionBias,
        unstack(mixed, input, config)
      )
      const middle = Op.add(x, attended)
      const inner = Op.rmsNorm(middle, parameters.weight(`${path}.post_attention_layernorm.weight`), config.normEps)
      const gate = linear(parameters, `${path}.mlp.gate_proj`, config.mlpBias, inner)
      const up = linear(parameters, `${path}.mlp.up_proj`, config.mlpBias, inner)
      return Op.add(middle, linear(parameters, `${path}.mlp.down_proj`, config.mlpBias, Op.mul(Op.silu(gate), up)))
    })
  }
  return { hidden: Op.rmsNorm(x, parameters.weight("model.norm.weight"), config.normEps), keys, values }
}

/** The logits of hidden states: [..., hidden] to [..., vocabulary]. */
export const logits = (config: ModelConfig, parameters: Parameters, hidden: Value): Value =>
  Op.matmul(hidden, parameters.weight(config.tieEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"), {
    transB: true
  })

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
const attention = (
  config: ModelConfig,
  input: Input,
  layer: number,
  q: Value,
  k: Value,
  v: Value,
  causal: Value
): Value => {
  const alpha = 1 / Math.sqrt(config.headDim)
  const own = Op.add(Op.matmul(q, k, { transB: true, alpha }), causal)
  const { past } = input
  if (past === undefined) return Op.matmul(Op.softmax(own), v)
  const before = Op.add(Op.matmul(q, past.keys[layer]!, { transB: true, alpha }), past.mask)
  const M = past.mask.shape[3]!
  const weights = Op.softmax(Op.concat([before, own], 3, `${M}+${input.ids.shape[1]}`))
  const [onPast, onOwn] = Op.splitBy(weights, 3, past.sizes, [M, input.ids.shape[1]!])
  return Op.add(Op.matmul(onPast!, past.values[layer]!), Op.matmul(onOwn!, v))
}
