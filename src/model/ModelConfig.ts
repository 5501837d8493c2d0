/**
 * ModelConfig: the shape of a network, and the tensors that it needs.
 *
 * `Family.ts` says what sets the families apart, `ConfigJson.ts` how a `config.json` is read.
 */
import { Result, Schema } from "effect"
import * as ConfigJson from "./ConfigJson.ts"
import * as Family from "./Family.ts"
import { quoted } from "./Quoted.ts"
import type { Rope } from "./Rope.ts"

/** A `config.json` that is not understood. */
export class ModelConfigError extends Schema.TaggedError<ModelConfigError>()("ModelConfigError", {
  file: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.file} ${this.reason}.`
  }
}

/** How a layer sees positions. */
export interface LayerAttention {
  /** A token sees so many tokens, itself the last of them; all before it where there is no window. */
  readonly window: number | undefined
  /** How positions enter queries and keys, if they do. */
  readonly rope: Rope | undefined
}

/** A decoder-only transformer's shape. */
export interface ModelConfig {
  readonly family: Family.Name
  readonly hiddenSize: number
  /** Width of the gated feed-forward layer. */
  readonly intermediateSize: number
  readonly layers: number
  /** Query heads. */
  readonly heads: number
  /** Key and value heads; divides `heads`. */
  readonly kvHeads: number
  readonly headDim: number
  readonly vocabSize: number
  /** Epsilon of the RMS norms. */
  readonly normEps: number
  readonly activation: ConfigJson.Activation
  /** The longest sequence the network was made for, of at most 131,072 tokens. */
  readonly maxPositions: number
  /** Whether the embedding is also the output projection. */
  readonly tieEmbeddings: boolean
  /** Which linear maps have biases: q, k and v; o; gate, up and down. */
  readonly biases: { readonly qkv: boolean; readonly output: boolean; readonly mlp: boolean }
  /** What queries times keys are multiplied with. */
  readonly attentionScale: number
  /** c of c·tanh(logits / c), which bounds the logits. */
  readonly logitSoftCap: number | undefined
  /** One for each layer. */
  readonly attention: ReadonlyArray<LayerAttention>
}

/** A linear map `y = W x + b` that a LoRA may adapt; W is [out, in]. */
export interface Linear {
  /** The module's name in the checkpoint, such as `model.layers.0.self_attn.q_proj`. */
  readonly path: string
  readonly in: number
  readonly out: number
  /** Whether there is a b. */
  readonly bias: boolean
  /** The norm whose result it reads, such as `model.layers.0.input_layernorm`; none where it reads something else. */
  readonly norm: string | undefined
}

const decodeModelType = Schema.decodeUnknownResult(Schema.Struct({ model_type: Schema.String }))

const isFamily = (type: string): type is Family.Name => Object.hasOwn(Family.families, type)

/**
 * Reads a parsed `config.json`; `file` is its name for errors.
 *
 * Fails with a `ModelConfigError` for a `model_type` or an option that Charter does not compute, which says what it
 * knows, and for numbers that cannot be a network's.
 */
export const fromJson = (json: unknown, file: string): Result.Result<ModelConfig, ModelConfigError> => {
  const fail = (reason: string) => Result.fail(new ModelConfigError({ file, reason }))
  const decoded = decodeModelType(json)
  if (Result.isFailure(decoded)) return fail("has no model_type; take the file from the model's own folder")
  const type = decoded.success.model_type
  if (!isFamily(type)) {
    return fail(`has the model_type ${quoted(type)}; Charter knows ${Object.keys(Family.families).join(", ")}`)
  }
  return Result.mapError(ConfigJson.read(type, json), (reason) => new ModelConfigError({ file, reason }))
}

/**
 * The linear maps a LoRA may adapt, in order: q, k, v, o, gate, up, down of every layer, where q, k and v, and gate and
 * up, may be one map each.
 */
export const linears = (config: ModelConfig): Array<Linear> => {
  const { biases, headDim, heads, hiddenSize, intermediateSize, kvHeads } = config
  const { fused, norms } = Family.families[config.family]
  const [query, key] = [heads * headDim, kvHeads * headDim]
  const entering =
    (norm: string | undefined) =>
    (bias: boolean, ...maps: ReadonlyArray<readonly [name: string, out: number]>) =>
      maps.map(([name, out]) => ({ name, in: hiddenSize, out, bias, norm }))
  const [attending, feeding] = [entering(norms.beforeAttention), entering(norms.beforeMlp)]
  const leaving = (bias: boolean, name: string, width: number) =>
    ({ name, in: width, out: hiddenSize, bias, norm: undefined }) as const
  const block = fused
    ? [
        ...attending(biases.qkv, ["self_attn.qkv_proj", query + 2 * key]),
        leaving(biases.output, "self_attn.o_proj", query),
        ...feeding(biases.mlp, ["mlp.gate_up_proj", 2 * intermediateSize]),
        leaving(biases.mlp, "mlp.down_proj", intermediateSize)
      ]
    : [
        ...attending(biases.qkv, ["self_attn.q_proj", query], ["self_attn.k_proj", key], ["self_attn.v_proj", key]),
        leaving(biases.output, "self_attn.o_proj", query),
        ...feeding(biases.mlp, ["mlp.gate_proj", intermediateSize], ["mlp.up_proj", intermediateSize]),
        leaving(biases.mlp, "mlp.down_proj", intermediateSize)
      ]
  return Array.from({ length: config.layers }, (_, layer) =>
    block.map(({ name, norm, ...map }) => ({
      path: `model.layers.${layer}.${name}`,
      ...map,
      norm: norm === undefined ? undefined : `model.layers.${layer}.${norm}`
    }))
  ).flat()
}

/** Name and shape of every tensor the network needs from its checkpoint. */
export const parameters = (config: ModelConfig): Map<string, ReadonlyArray<number>> => {
  const { headDim, heads, hiddenSize, kvHeads, vocabSize } = config
  const { norms, queryKeyNorms } = Family.families[config.family]
  const shapes = new Map<string, ReadonlyArray<number>>([["model.embed_tokens.weight", [vocabSize, hiddenSize]]])
  for (const linear of linears(config)) {
    shapes.set(`${linear.path}.weight`, [linear.out, linear.in])
    if (linear.bias) shapes.set(`${linear.path}.bias`, [linear.out])
  }
  for (let layer = 0; layer < config.layers; layer++) {
    for (const norm of Object.values(norms)) shapes.set(`model.layers.${layer}.${norm}.weight`, [hiddenSize])
    if (queryKeyNorms === "none") continue
    const whole = queryKeyNorms === "width"
    shapes.set(`model.layers.${layer}.self_attn.q_norm.weight`, [whole ? heads * headDim : headDim])
    shapes.set(`model.layers.${layer}.self_attn.k_norm.weight`, [whole ? kvHeads * headDim : headDim])
  }
  shapes.set("model.norm.weight", [hiddenSize])
  if (!config.tieEmbeddings) shapes.set("lm_head.weight", [vocabSize, hiddenSize])
  return shapes
}
