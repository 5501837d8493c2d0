/**
 * ConfigJson: how a model's `config.json` is read.
 *
 * A file may leave out what equals the defaults of transformers' configuration classes (see `Family.ts`). An option that
 * would make another network than the one computed here is refused by its name; all others are ignored.
 */
import { Result, Schema } from "effect"
import * as Family from "./Family.ts"
import type { LayerAttention, ModelConfig } from "./ModelConfig.ts"
import { quoted, quotedJson } from "./Quoted.ts"
import type { Rope } from "./Rope.ts"
import * as RopeConfig from "./RopeConfig.ts"

/** The functions that the gate of a feed-forward layer may have. */
export const activations = ["silu", "gelu_pytorch_tanh"] as const
export type Activation = (typeof activations)[number]

/** Positions at most: each costs memory in every graph, and a broken file must not ask for thousands of millions. */
const mostPositions = 131_072

const Size = Schema.Int.check(Schema.isGreaterThan(0), Schema.isLessThanOrEqualTo(0x7fffffff))
/** A bound far above any network's, so that a broken file cannot ask for endless names. */
const Depth = Schema.Int.check(Schema.isGreaterThan(0), Schema.isLessThanOrEqualTo(4096))
const Positive = Schema.Finite.check(Schema.isGreaterThan(0))
/** A key that may be missing or null, which both mean the default. */
const maybe = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const Json = Schema.Struct({
  vocab_size: maybe(Size),
  hidden_size: maybe(Size),
  intermediate_size: maybe(Size),
  num_hidden_layers: maybe(Depth),
  num_attention_heads: maybe(Size),
  num_key_value_heads: maybe(Size),
  head_dim: maybe(Size),
  hidden_act: maybe(Schema.String),
  hidden_activation: maybe(Schema.String),
  max_position_embeddings: maybe(Size),
  original_max_position_embeddings: maybe(Size),
  rms_norm_eps: maybe(Positive),
  tie_word_embeddings: maybe(Schema.Boolean),
  attention_bias: maybe(Schema.Boolean),
  mlp_bias: maybe(Schema.Boolean),
  query_pre_attn_scalar: maybe(Positive),
  final_logit_softcapping: maybe(Positive),
  use_bidirectional_attention: maybe(Schema.Boolean),
  is_causal: maybe(Schema.Boolean),
  use_sliding_window: maybe(Schema.Boolean),
  sliding_window: maybe(Size),
  sliding_window_pattern: maybe(Size),
  max_window_layers: maybe(Schema.Int),
  layer_types: maybe(Schema.Array(Schema.String)),
  no_rope_layers: maybe(Schema.Array(Schema.Union([Schema.Number, Schema.Boolean]))),
  no_rope_layer_interval: maybe(Size),
  rope_theta: maybe(Positive),
  rope_local_base_freq: maybe(Positive),
  partial_rotary_factor: maybe(Positive),
  rope_scaling: maybe(RopeConfig.Json),
  rope_parameters: maybe(RopeConfig.Layered),
  quantization_config: Schema.optionalKey(Schema.Unknown)
})
type Json = typeof Json.Type
const decode = Schema.decodeUnknownResult(Json)

/** Reads a parsed `config.json` of a family; a failure is the end of a sentence that starts with the file's name. */
export const read = (name: Family.Name, unknown: unknown): Result.Result<ModelConfig, string> =>
  Result.gen(function* () {
    const json = yield* Result.mapError(
      decode(unknown),
      (error) =>
        `does not describe a model: ${quoted(error.message.replace(/\s+/g, " "))}; take the file from the model's own folder`
    )
    const family = Family.families[name]
    const { defaults } = family
    const activation = json[family.activationKey] ?? defaults.activation
    const known = activations.find((a) => a === activation)
    if (known === undefined) {
      return yield* Result.fail(
        `asks for the activation ${quoted(activation)}; Charter knows ${activations.join(", ")}`
      )
    }
    if (json.use_bidirectional_attention === true) {
      return yield* Result.fail("asks for use_bidirectional_attention; Charter knows causal attention alone")
    }
    // Decoders that became embedding models have a false; a null is one, too, as in Python.
    if (json.is_causal !== undefined && json.is_causal !== true) {
      return yield* Result.fail("has an is_causal that is not true; Charter knows causal attention alone")
    }
    if (json.quantization_config !== undefined && json.quantization_config !== null) {
      return yield* Result.fail("has a quantization_config; use the model's weights in F32, F16 or BF16")
    }
    const hiddenSize = json.hidden_size ?? defaults.hidden_size
    const heads = json.num_attention_heads ?? defaults.num_attention_heads
    // A null here is no missing key: it asks for as many as query heads.
    const kvHeads =
      json.num_key_value_heads === null ? heads : (json.num_key_value_heads ?? defaults.num_key_value_heads ?? heads)
    const headDim = json.head_dim ?? defaults.head_dim ?? hiddenSize / heads
    if (heads % kvHeads !== 0) {
      return yield* Result.fail(
        `has ${heads} attention heads for ${kvHeads} key-value heads; the first must be a multiple of the second`
      )
    }
    if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
      return yield* Result.fail(
        `gives heads of ${headDim} dimensions; rotary embeddings need an even whole number, so check hidden_size and head_dim`
      )
    }
    const layers = json.num_hidden_layers ?? defaults.num_hidden_layers
    const maxPositions = json.max_position_embeddings ?? defaults.max_position_embeddings
    const attention = yield* layerAttention(family, json, layers, headDim, maxPositions)
    const bias = (of: Family.Bias): boolean => (typeof of === "boolean" ? of : (json[of] ?? false))
    // Beyond its original context a LongRoPE has other frequencies, for all positions of the sequence.
    const original = json.original_max_position_embeddings ?? defaults.original_max_position_embeddings
    const longrope = original !== undefined && attention.some(({ rope }) => rope?.kind === "longrope")
    return {
      family: name,
      hiddenSize,
      intermediateSize: json.intermediate_size ?? defaults.intermediate_size,
      layers,
      heads,
      kvHeads,
      headDim,
      vocabSize: json.vocab_size ?? defaults.vocab_size,
      normEps: json.rms_norm_eps ?? defaults.rms_norm_eps,
      activation: known,
      maxPositions: Math.min(longrope ? original : maxPositions, maxPositions, mostPositions),
      tieEmbeddings: json.tie_word_embeddings ?? defaults.tie_word_embeddings,
      biases: { qkv: bias(family.biases.qkv), output: bias(family.biases.output), mlp: bias(family.biases.mlp) },
      attentionScale: 1 / Math.sqrt(family.queryScalar ? (json.query_pre_attn_scalar ?? 256) : headDim),
      logitSoftCap: family.softCaps ? (json.final_logit_softcapping ?? undefined) : undefined,
      attention
    }
  })

/** How each layer sees positions. */
const layerAttention = (
  family: Family.Family,
  json: Json,
  layers: number,
  headDim: number,
  maxPositions: number
): Result.Result<ReadonlyArray<LayerAttention>, string> =>
  Result.gen(function* () {
    const rotary = yield* rotaryLayers(family, json, layers)
    const sliding = yield* slidingLayers(family, json, rotary)
    const window = windowOf(family, json)
    if (window === undefined && family.layerTypes && sliding.includes(true)) {
      return yield* Result.fail(
        "has layers of sliding_attention without a sliding_window, or without use_sliding_window where the family has it; set both"
      )
    }
    const rope = yield* ropes(family, json, headDim, maxPositions)
    return rotary.map((rotates, layer) => ({
      window: sliding[layer]! ? window : undefined,
      rope: !rotates ? undefined : sliding[layer]! ? rope.sliding : rope.full
    }))
  })

/** A missing window is the family's, a null one none. */
const windowOf = ({ defaults, windowSwitch }: Family.Family, json: Json): number | undefined => {
  if (windowSwitch && json.use_sliding_window !== true) return undefined
  return json.sliding_window === null ? undefined : (json.sliding_window ?? defaults.sliding_window)
}

/** Which layers have rotary positions. */
const rotaryLayers = (family: Family.Family, json: Json, layers: number): Result.Result<Array<boolean>, string> => {
  const numbers = Array.from({ length: layers }, (_, layer) => layer)
  if (!family.noRopeLayers) return Result.succeed(numbers.map(() => true))
  const given = json.no_rope_layers
  if (given == null) {
    const interval = json.no_rope_layer_interval ?? 4
    return Result.succeed(numbers.map((layer) => (layer + 1) % interval !== 0))
  }
  return given.length < layers
    ? Result.fail(`has ${given.length} numbers in no_rope_layers for ${layers} layers; give one for each`)
    : Result.succeed(numbers.map((layer) => Boolean(given[layer])))
}

const layerTypes = ["full_attention", "sliding_attention"]

/** Which layers have a window. */
const slidingLayers = (
  family: Family.Family,
  json: Json,
  rotary: ReadonlyArray<boolean>
): Result.Result<Array<boolean>, string> => {
  const types = family.layerTypes ? json.layer_types : undefined
  if (types == null) {
    const windowed = windowOf(family, json) !== undefined
    return Result.succeed(
      rotary.map(
        (rotates, layer) =>
          windowed &&
          family.sliding(layer, {
            maxWindowLayers: json.max_window_layers ?? 28,
            pattern: json.sliding_window_pattern ?? 6,
            rotary: rotates
          })
      )
    )
  }
  const stray = types.find((type) => !layerTypes.includes(type))
  if (stray !== undefined) {
    return Result.fail(`has a layer of ${quoted(stray)}; Charter knows ${layerTypes.join(", ")}`)
  }
  return types.length < rotary.length
    ? Result.fail(`has ${types.length} layer_types for ${rotary.length} layers; give one for each`)
    : Result.succeed(rotary.map((_, layer) => types[layer] === "sliding_attention"))
}

/** The rotary embeddings of layers without a window and with one. */
const ropes = (
  family: Family.Family,
  json: Json,
  headDim: number,
  maxPositions: number
): Result.Result<{ readonly full: Rope; readonly sliding: Rope }, string> =>
  Result.gen(function* () {
    const { defaults, partialRotary } = family
    const nested = json.rope_parameters?.full_attention != null || json.rope_parameters?.sliding_attention != null
    if (nested !== family.ropePerLayerType && (nested || Object.keys(json.rope_parameters ?? {}).length > 0)) {
      return yield* Result.fail(
        nested
          ? "has rope_parameters of full_attention and sliding_attention, which this family has not; give one for all layers"
          : "has one rope_parameters for all layers; this family has one for full_attention and one for sliding_attention"
      )
    }
    const partial = json.partial_rotary_factor ?? undefined
    // Of keys for each kind of layers transformers reads this one beside the kinds, and not in them.
    const { truncate = true } = json.rope_parameters ?? {}
    const outer = family.ropePerLayerType ? { truncate } : {}
    const read = (keys: RopeConfig.Keys, theta: number): Result.Result<Rope, string> => {
      const factor = keys.partial_rotary_factor ?? partial ?? 1
      if (factor !== 1 && !partialRotary) {
        return Result.fail(
          `has a partial_rotary_factor of ${quotedJson(factor)}; heads of this family are rotated whole, so leave it out`
        )
      }
      return RopeConfig.fromJson(
        { ...keys, ...outer, partial_rotary_factor: factor },
        {
          kinds: family.ropes,
          theta,
          headDim,
          maxPositions,
          // Keys of a kind of layers go without the file's own number, which transformers does not look at then.
          originalPositions: family.ropePerLayerType
            ? undefined
            : (json.original_max_position_embeddings ?? defaults.original_max_position_embeddings)
        }
      )
    }
    const scaling = Object.keys(json.rope_scaling ?? {}).length === 0 ? undefined : json.rope_scaling!
    const theta = json.rope_theta ?? defaults.rope_theta
    if (!family.ropePerLayerType) {
      const rope = yield* read(scaling ?? json.rope_parameters ?? {}, theta)
      return { full: rope, sliding: rope }
    }
    return {
      full: yield* read({ ...json.rope_parameters?.full_attention, ...scaling }, theta),
      sliding: yield* read(json.rope_parameters?.sliding_attention ?? {}, json.rope_local_base_freq ?? 10000)
    }
  })
