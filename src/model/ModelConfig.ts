/**
 * What a checkpoint's `config.json` says about its network.
 *
 * Defaults are those of transformers' configuration classes, because a config.json may leave out what equals them.
 */
import { Result, Schema } from "effect"

/** A `config.json` that is not understood. */
export class ModelConfigError extends Schema.TaggedError<ModelConfigError>()("ModelConfigError", {
  file: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.file} ${this.reason}.`
  }
}

/** A decoder-only transformer's shape. */
export interface ModelConfig {
  readonly family: "llama"
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
  /** Base of the rotary embedding's wavelengths. */
  readonly ropeTheta: number
  /** The longest sequence the network was made for. */
  readonly maxPositions: number
  /** Whether the embedding is also the output projection. */
  readonly tieEmbeddings: boolean
  /** Whether q, k, v and o have biases. */
  readonly attentionBias: boolean
  /** Whether gate, up and down have biases. */
  readonly mlpBias: boolean
}

/** A linear map `y = W x` that a LoRA may adapt; W is [out, in]. */
export interface Linear {
  /** The module's name in the checkpoint, such as `model.layers.0.self_attn.q_proj`. */
  readonly path: string
  readonly in: number
  readonly out: number
}

const Size = Schema.Int.check(Schema.isGreaterThan(0), Schema.isLessThanOrEqualTo(0x7fffffff))
/** A bound far above any network's, so that a broken file cannot ask for endless names. */
const Depth = Schema.Int.check(Schema.isGreaterThan(0), Schema.isLessThanOrEqualTo(4096))
const Positive = Schema.Finite.check(Schema.isGreaterThan(0))
/** A key that may be missing or null, which both mean the default. */
const maybe = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const Rope = Schema.Struct({
  rope_type: maybe(Schema.String),
  type: maybe(Schema.String),
  rope_theta: maybe(Positive)
})

/** transformers' LlamaConfig. */
const LlamaJson = Schema.Struct({
  vocab_size: maybe(Size),
  hidden_size: maybe(Size),
  intermediate_size: maybe(Size),
  num_hidden_layers: maybe(Depth),
  num_attention_heads: maybe(Size),
  num_key_value_heads: maybe(Size),
  head_dim: maybe(Size),
  hidden_act: maybe(Schema.String),
  max_position_embeddings: maybe(Size),
  rms_norm_eps: maybe(Positive),
  tie_word_embeddings: maybe(Schema.Boolean),
  attention_bias: maybe(Schema.Boolean),
  mlp_bias: maybe(Schema.Boolean),
  rope_theta: maybe(Positive),
  rope_scaling: maybe(Rope),
  rope_parameters: maybe(Rope)
})

type Outcome = Result.Result<ModelConfig, ModelConfigError>

const fail = (file: string, reason: string) => Result.fail(new ModelConfigError({ file, reason }))

const decodeLlama = Schema.decodeUnknownResult(LlamaJson)

const llama = (json: unknown, file: string): Outcome => {
  const decoded = decodeLlama(json)
  if (Result.isFailure(decoded)) {
    return fail(
      file,
      `does not describe a model: ${decoded.failure.message.replace(/\s+/g, " ")}; take the file from the model's own folder`
    )
  }
  const found = decoded.success
  const activation = found.hidden_act ?? "silu"
  if (activation !== "silu") {
    return fail(
      file,
      `asks for the activation ${activation}, which a llama model here cannot have; use a model with silu`
    )
  }
  // transformers 5 writes rope_parameters, earlier versions rope_theta and, for other kinds, rope_scaling.
  const rope = found.rope_parameters ?? found.rope_scaling
  const kind = rope?.rope_type ?? rope?.type ?? "default"
  if (kind !== "default") {
    return fail(
      file,
      `asks for the rotary embedding ${kind}, which Charter does not compute; use a model with the default one`
    )
  }
  const hiddenSize = found.hidden_size ?? 4096
  const heads = found.num_attention_heads ?? 32
  const kvHeads = found.num_key_value_heads ?? heads
  const headDim = found.head_dim ?? hiddenSize / heads
  if (heads % kvHeads !== 0) {
    return fail(
      file,
      `has ${heads} attention heads for ${kvHeads} key-value heads; the first must be a multiple of the second`
    )
  }
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    return fail(
      file,
      `gives heads of ${headDim} dimensions; rotary embeddings need an even whole number, so check hidden_size and head_dim`
    )
  }
  return Result.succeed({
    family: "llama",
    hiddenSize,
    intermediateSize: found.intermediate_size ?? 11008,
    layers: found.num_hidden_layers ?? 32,
    heads,
    kvHeads,
    headDim,
    vocabSize: found.vocab_size ?? 32000,
    normEps: found.rms_norm_eps ?? 1e-6,
    ropeTheta: found.rope_parameters?.rope_theta ?? found.rope_theta ?? 10000,
    maxPositions: found.max_position_embeddings ?? 2048,
    tieEmbeddings: found.tie_word_embeddings ?? false,
    attentionBias: found.attention_bias ?? false,
    mlpBias: found.mlp_bias ?? false
  })
}

/** Readers by `model_type`. */
const families: Readonly<Record<string, (json: unknown, file: string) => Outcome>> = { llama }

const decodeModelType = Schema.decodeUnknownResult(Schema.Struct({ model_type: Schema.String }))

/**
 * Reads a parsed `config.json`; `file` is its name for errors.
 *
 * Fails with a `ModelConfigError` for a `model_type`, activation or rotary embedding that Charter does not compute, and
 * for numbers that cannot be a network's.
 */
export const fromJson = (json: unknown, file: string): Outcome => {
  const decoded = decodeModelType(json)
  if (Result.isFailure(decoded)) {
    return fail(file, "has no model_type; take the file from the model's own folder")
  }
  const type = decoded.success.model_type
  if (!Object.hasOwn(families, type)) {
    return fail(file, `has the model_type ${type}; Charter knows ${Object.keys(families).join(", ")}`)
  }
  return families[type]!(json, file)
}

/** The linear maps a LoRA may adapt, in order: q, k, v, o, gate, up, down of every layer. */
export const linears = (config: ModelConfig): Array<Linear> => {
  const { headDim, heads, hiddenSize, intermediateSize, kvHeads } = config
  const block = [
    { name: "self_attn.q_proj", in: hiddenSize, out: heads * headDim },
    { name: "self_attn.k_proj", in: hiddenSize, out: kvHeads * headDim },
    { name: "self_attn.v_proj", in: hiddenSize, out: kvHeads * headDim },
    { name: "self_attn.o_proj", in: heads * headDim, out: hiddenSize },
    { name: "mlp.gate_proj", in: hiddenSize, out: intermediateSize },
    { name: "mlp.up_proj", in: hiddenSize, out: intermediateSize },
    { name: "mlp.down_proj", in: intermediateSize, out: hiddenSize }
  ]
  return Array.from({ length: config.layers }, (_, layer) =>
    block.map(({ name, ...size }) => ({ path: `model.layers.${layer}.${name}`, ...size }))
  ).flat()
}

/** Name and shape of every tensor the network needs from its checkpoint. */
export const parameters = (config: ModelConfig): Map<string, ReadonlyArray<number>> => {
  const { hiddenSize, vocabSize } = config
  const shapes = new Map<string, ReadonlyArray<number>>([["model.embed_tokens.weight", [vocabSize, hiddenSize]]])
  for (const linear of linears(config)) {
    shapes.set(`${linear.path}.weight`, [linear.out, linear.in])
    const biased = linear.path.includes(".self_attn.") ? config.attentionBias : config.mlpBias
    if (biased) shapes.set(`${linear.path}.bias`, [linear.out])
  }
  for (let layer = 0; layer < config.layers; layer++) {
    shapes.set(`model.layers.${layer}.input_layernorm.weight`, [hiddenSize])
    shapes.set(`model.layers.${layer}.post_attention_layernorm.weight`, [hiddenSize])
  }
  shapes.set("model.norm.weight", [hiddenSize])
  if (!config.tieEmbeddings) shapes.set("lm_head.weight", [vocabSize, hiddenSize])
  return shapes
}
