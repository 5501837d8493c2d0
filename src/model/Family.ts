/**
 * Family: what sets the families of decoder-only transformers apart, as data.
 *
 * All of them are blocks of grouped-query attention and a gated feed-forward layer around a residual stream. A family
 * says where its norms stand, which biases it has, how its layers see positions, and what its `config.json` may leave
 * out. Facts and defaults are those of transformers 5.
 */
import type { Rope } from "./Rope.ts"

/** The `model_type`s that Charter computes. */
export type Name = "llama" | "mistral" | "ministral" | "qwen2" | "qwen3" | "gemma3_text" | "phi3" | "smollm3" | "olmo2"

/** Where a block's norms stand, by their names in the checkpoint; a place without a name has none. */
export interface Norms {
  readonly beforeAttention?: string
  readonly afterAttention?: string
  readonly beforeMlp?: string
  readonly afterMlp?: string
}

/** Whether linear maps have biases, or the key of `config.json` that says so. */
export type Bias = boolean | "attention_bias" | "mlp_bias"

/** What decides whether a layer has a window. */
export interface Windows {
  /** `max_window_layers`: the layers below have none. */
  readonly maxWindowLayers: number
  /** `sliding_window_pattern`: of so many layers the last has none. */
  readonly pattern: number
  /** Whether the layer has rotary positions. */
  readonly rotary: boolean
}

/** What sets a family apart. */
export interface Family {
  readonly norms: Norms
  /** What is added to the weight of every norm. */
  readonly normOffset: 0 | 1
  /** Norms of queries and keys: none, of each head, or of the whole width. */
  readonly queryKeyNorms: "none" | "head" | "width"
  /** Whether q, k and v are one linear map, and gate and up another. */
  readonly fused: boolean
  readonly biases: { readonly qkv: Bias; readonly output: Bias; readonly mlp: Bias }
  /** The key of `config.json` that names the gate's activation; the other one says nothing. */
  readonly activationKey: "hidden_act" | "hidden_activation"
  /** Whether the embedding is multiplied with √hidden. */
  readonly scaledEmbedding: boolean
  /** Whether scores are scaled by `query_pre_attn_scalar` in place of the width of a head. */
  readonly queryScalar: boolean
  /** Whether `final_logit_softcapping` bounds the logits. */
  readonly softCaps: boolean
  /** The kinds of rotary embeddings, as `rope_type` names them. */
  readonly ropes: ReadonlyArray<Rope["kind"] | "su">
  /** Whether a part of each head may stay unrotated. */
  readonly partialRotary: boolean
  /** Whether layers with a window have rotary parameters of their own. */
  readonly ropePerLayerType: boolean
  /** Whether `no_rope_layers` takes the rotary positions from some layers. */
  readonly noRopeLayers: boolean
  /** Whether `use_sliding_window` must be true for windows to be used. */
  readonly windowSwitch: boolean
  /** Whether `layer_types` says which layers have a window. */
  readonly layerTypes: boolean
  /** Whether a layer has a window, where `layer_types` does not say so. */
  readonly sliding: (layer: number, windows: Windows) => boolean
  /** What a `config.json` may leave out. */
  readonly defaults: Defaults
}

interface Defaults {
  readonly vocab_size: number
  readonly hidden_size: number
  readonly intermediate_size: number
  readonly num_hidden_layers: number
  readonly num_attention_heads: number
  /** As many as query heads where it is missing. */
  readonly num_key_value_heads?: number
  /** hidden / heads where it is missing. */
  readonly head_dim?: number
  readonly max_position_embeddings: number
  readonly rms_norm_eps: number
  readonly tie_word_embeddings: boolean
  readonly activation: string
  readonly rope_theta: number
  readonly sliding_window?: number
  readonly original_max_position_embeddings?: number
  readonly bos_token_id?: number
  readonly eos_token_id?: number
  readonly pad_token_id?: number
}

const standardRopes: Family["ropes"] = ["default", "linear", "llama3", "yarn"]

/** Llama (Touvron et al. 2023, https://arxiv.org/abs/2302.13971): norms before attention and feed-forward layer. */
const llama: Family = {
  norms: { beforeAttention: "input_layernorm", beforeMlp: "post_attention_layernorm" },
  normOffset: 0,
  queryKeyNorms: "none",
  fused: false,
  biases: { qkv: "attention_bias", output: "attention_bias", mlp: "mlp_bias" },
  activationKey: "hidden_act",
  scaledEmbedding: false,
  queryScalar: false,
  softCaps: false,
  ropes: standardRopes,
  partialRotary: false,
  ropePerLayerType: false,
  noRopeLayers: false,
  windowSwitch: false,
  layerTypes: false,
  sliding: () => false,
  defaults: {
    vocab_size: 32000,
    hidden_size: 4096,
    intermediate_size: 11008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: false,
    activation: "silu",
    rope_theta: 10000,
    bos_token_id: 1,
    eos_token_id: 2
  }
}

/**
 * Mistral (https://arxiv.org/abs/2310.06825): a window in every layer. With `layer_types` it is Ministral, whose layers
 * may differ, and as which transformers 5 saves it.
 */
const mistral: Family = {
  ...llama,
  biases: { qkv: false, output: false, mlp: false },
  layerTypes: true,
  sliding: () => true,
  defaults: {
    ...llama.defaults,
    intermediate_size: 14336,
    num_key_value_heads: 8,
    max_position_embeddings: 131072,
    sliding_window: 4096
  }
}

/** Qwen 2 and 2.5 (https://arxiv.org/abs/2407.10671): biases on q, k and v; windows in the upper layers, if at all. */
const qwen2: Family = {
  ...llama,
  biases: { qkv: true, output: false, mlp: false },
  windowSwitch: true,
  layerTypes: true,
  sliding: (layer, windows) => layer >= windows.maxWindowLayers,
  defaults: {
    vocab_size: 151936,
    hidden_size: 4096,
    intermediate_size: 22016,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    max_position_embeddings: 32768,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: false,
    activation: "silu",
    rope_theta: 10000,
    sliding_window: 4096
  }
}

/** Qwen 3 (https://arxiv.org/abs/2505.09388): norms of each query and key head in place of biases. */
const qwen3: Family = {
  ...qwen2,
  queryKeyNorms: "head",
  biases: { qkv: "attention_bias", output: "attention_bias", mlp: false },
  defaults: { ...qwen2.defaults, head_dim: 128 }
}

/** Gemma 3 (https://arxiv.org/abs/2503.19786): norms on both sides, five layers with a window to one without. */
const gemma3: Family = {
  ...llama,
  norms: {
    beforeAttention: "input_layernorm",
    afterAttention: "post_attention_layernorm",
    beforeMlp: "pre_feedforward_layernorm",
    afterMlp: "post_feedforward_layernorm"
  },
  normOffset: 1,
  queryKeyNorms: "head",
  biases: { qkv: "attention_bias", output: "attention_bias", mlp: false },
  activationKey: "hidden_activation",
  scaledEmbedding: true,
  queryScalar: true,
  softCaps: true,
  ropePerLayerType: true,
  layerTypes: true,
  sliding: (layer, windows) => (layer + 1) % windows.pattern !== 0,
  defaults: {
    vocab_size: 262208,
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    head_dim: 256,
    max_position_embeddings: 131072,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: true,
    activation: "gelu_pytorch_tanh",
    rope_theta: 1_000_000,
    sliding_window: 4096,
    bos_token_id: 2,
    eos_token_id: 1,
    pad_token_id: 0
  }
}

/** Phi 3 (https://arxiv.org/abs/2404.14219): one map makes q, k and v, another gate and up. */
const phi3: Family = {
  ...mistral,
  fused: true,
  ropes: ["default", "longrope", "su", "yarn"],
  partialRotary: true,
  layerTypes: false,
  defaults: {
    vocab_size: 32064,
    hidden_size: 3072,
    intermediate_size: 8192,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: false,
    activation: "silu",
    rope_theta: 10000,
    original_max_position_embeddings: 4096,
    bos_token_id: 1,
    eos_token_id: 32000,
    pad_token_id: 32000
  }
}

/** SmolLM 3 (https://huggingface.co/blog/smollm3): every fourth layer has no rotary positions. */
const smollm3: Family = {
  ...llama,
  noRopeLayers: true,
  windowSwitch: true,
  layerTypes: true,
  sliding: (_, windows) => !windows.rotary,
  defaults: {
    vocab_size: 128256,
    hidden_size: 2048,
    intermediate_size: 11008,
    num_hidden_layers: 36,
    num_attention_heads: 16,
    num_key_value_heads: 4,
    max_position_embeddings: 32768,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: true,
    activation: "silu",
    rope_theta: 2_000_000,
    bos_token_id: 128000,
    eos_token_id: 128001,
    pad_token_id: 128004
  }
}

/** OLMo 2 (https://arxiv.org/abs/2501.00656): norms after attention and feed-forward layer, and of all queries and keys. */
const olmo2: Family = {
  ...llama,
  norms: { afterAttention: "post_attention_layernorm", afterMlp: "post_feedforward_layernorm" },
  queryKeyNorms: "width",
  biases: { qkv: "attention_bias", output: "attention_bias", mlp: false },
  defaults: {
    vocab_size: 50304,
    hidden_size: 4096,
    intermediate_size: 11008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: false,
    activation: "silu",
    rope_theta: 10000,
    eos_token_id: 50279,
    pad_token_id: 1
  }
}

/** Every family by its `model_type`. */
export const families: Readonly<Record<Name, Family>> = {
  llama,
  mistral,
  ministral: mistral,
  qwen2,
  qwen3,
  gemma3_text: gemma3,
  phi3,
  smollm3,
  olmo2
}
