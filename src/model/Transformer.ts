/**
 * Transformer: a decoder-only network as nodes of a graph.
 *
 * One definition gives every program: without a past it scores and learns, with one it decodes. Where a weight comes
 * from (the checkpoint, a trainable vector) and which linear maps carry a LoRA is the caller's choice (`Linear.ts`), so
 * frozen, adapted and fully trained networks are the same code.
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
import * as Linear from "./Linear.ts"
import type { ModelConfig } from "./ModelConfig.ts"
import * as Rope from "./Rope.ts"

/** What the network reads and is made of, and what stands for minus infinity in its masks. */
export type Input = Attention.Input
export type Parameters = Linear.Parameters
export const masked = Attention.masked

/** The network's results. */
export interface Output {
  /**
   * The hidden states after the last norm: [B, T, hidden], or [N, hidden] of the tokens at flat places b·T + t, int64
   * [N]. No token depends on the last feed-forward layer of another, so that layer sees the tokens asked for alone.
   */
  readonly hidden: (at?: Value) => Value
  /** The keys and values of these tokens for each layer, [B, kvHeads, T, headDim]; none with `whole`. */
  readonly keys: ReadonlyArray<Value>
  readonly values: ReadonlyArray<Value>
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

  /** The norm of a name, where the family has one at this place, divided by factors if there are any. */
  const norm = (x: Value, layer: string, name: string | undefined, factors?: Value): Value => {
    if (name === undefined) return x
    const stored = parameters.weight(`${layer}.${name}.weight`)
    const weight = normOffset === 0 ? stored : Op.shift(stored, normOffset)
    return Op.rmsNorm(x, factors === undefined ? weight : Op.div(weight, factors), config.normEps)
  }
  /** The norm in front of linear maps of a module, the first of which is named. */
  const normBefore = (x: Value, layer: string, name: string | undefined, map: string): Value =>
    norm(x, layer, name, parameters.smoothing?.(`${layer}.${map}`))
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
      return Linear.linears(parameters, paths, biases.qkv, x)
    }
    const [q, k, v] = fused
      ? Op.split(maps("qkv_proj")[0]!, -1, [queryWidth, keyWidth, keyWidth])
      : maps("q_proj", "k_proj", "v_proj")
    const query = rotate(normHeads(q!, of, "q_norm"), layer)
    const key = rotate(normHeads(k!, of, "k_norm"), layer)
    const attended = attend(layer, query, key, v!)
    if (attended.keys !== undefined) keys.push(attended.keys)
    if (attended.values !== undefined) values.push(attended.values)
    return Linear.linears(parameters, [`${of}.o_proj`], biases.output, attended.mixed)[0]!
  }

  const feedForward = (x: Value, path: string): Value => {
    const maps = (input: Value, ...names: ReadonlyArray<string>) => {
      const paths = names.map((name) => `${path}.mlp.${name}`)
      return Linear.linears(parameters, paths, biases.mlp, input)
    }
    const [gate, up] = fused
      ? Op.split(maps(x, "gate_up_proj")[0]!, -1, [intermediateSize, intermediateSize])
      : maps(x, "gate_proj", "up_proj")
    return maps(gates[config.activation](gate!, up!), "down_proj")[0]!
  }

  const attending = (x: Value, layer: number): Value => {
    const path = `model.layers.${layer}`
    const first = fused ? "self_attn.qkv_proj" : "self_attn.q_proj"
    const attended = attention(normBefore(x, path, norms.beforeAttention, first), path, layer)
    return Op.add(x, norm(attended, path, norms.afterAttention))
  }
  const feeding = (x: Value, layer: number): Value => {
    const path = `model.layers.${layer}`
    const first = fused ? "mlp.gate_up_proj" : "mlp.gate_proj"
    const fed = feedForward(normBefore(x, path, norms.beforeMlp, first), path)
    return Op.add(x, norm(fed, path, norms.afterMlp))
  }
  const within = (layer: number, build: () => Value): Value => Graph.labelled(graph, `layer${layer}`, build)

  const embedded = rowsOf(parameters, "model.embed_tokens.weight", input.ids)
  let x = scaledEmbedding ? Op.scale(embedded, Math.sqrt(config.hiddenSize)) : embedded
  const last = config.layers - 1
  for (let layer = 0; layer < last; layer++) x = within(layer, () => feeding(attending(x, layer), layer))
  const attended = within(last, () => attending(x, last))
  return {
    hidden: (at) => {
      const fed = within(last, () => {
        if (at === undefined) return feeding(attended, last)
        const [N, H] = [at.shape[0]!, config.hiddenSize]
        return Op.reshape(feeding(Op.reshape(pick(attended, at), [N, 1, H]), last), [N, H])
      })
      return norm(fed, "model", "norm")
    },
    keys,
    values
  }
}

/** Rows of x [B, T, H] at flat places b·T + t, int64 [N]: [N, H]. */
export const pick = (x: Value, at: Value): Value => {
  const [B, T, H] = x.shape as [Dim, Dim, Dim]
  return Op.gather(Op.reshape(x, [`${B}*${T}`, H]), at)
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
    logits: (hidden) => Linear.product(parameters, "lm_head", name, hidden),
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

/**
 * Hidden states whose logits are those of the given ones, divided by the temperature T: logits are linear in them, and
 * c·tanh(z / c) / T is that of z / T with c / T for c.
 */
export const tempered = (
  config: ModelConfig,
  hidden: Value,
  temperature: number
): { readonly config: ModelConfig; readonly hidden: Value } => {
  if (temperature === 1) return { config, hidden }
  const cap = config.logitSoftCap
  return {
    config: { ...config, logitSoftCap: cap === undefined ? undefined : cap / temperature },
    hidden: Op.scale(hidden, 1 / temperature)
  }
}

/**
 * The logits of hidden states: [..., hidden] to [..., vocabulary], divided by a temperature, a scalar, if one is given; it
 * goes in as in {@link tempered}.
 */
export const logits = (config: ModelConfig, parameters: Parameters, hidden: Value, temperature?: Value): Value => {
  const over = (x: Value) => (temperature === undefined ? x : Op.div(x, temperature))
  const plain = projection(config, parameters).logits(over(hidden))
  const cap = config.logitSoftCap
  if (cap === undefined) return plain
  const bent = Op.scale(plain, 1 / cap)
  return over(Op.scale(Op.tanh(temperature === undefined ? bent : Op.mul(bent, temperature)), cap))
}

/** What an activated gate lets through. */
const gates: Readonly<Record<ModelConfig["activation"], (gate: Value, x: Value) => Value>> = {
  silu: Op.swiglu,
  gelu_pytorch_tanh: (gate, x) => Op.mul(Op.geluTanh(gate), x)
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
