import { describe, expect, it } from "@effect/vitest"
import { Result } from "effect"
import * as fc from "fast-check"
import * as Family from "../../src/model/Family.ts"
import * as ModelConfig from "../../src/model/ModelConfig.ts"

const small = {
  hidden_size: 64,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  num_hidden_layers: 2,
  intermediate_size: 160,
  vocab_size: 320
}
const llama = { ...small, model_type: "llama" }
const parse = (json: unknown) => Result.getOrThrow(ModelConfig.fromJson(json, "config.json"))
const refusal = (json: unknown) => Result.getOrThrow(Result.flip(ModelConfig.fromJson(json, "config.json"))).message
const ropes = (json: unknown) => parse(json).attention.map(({ rope }) => rope)
const windows = (json: unknown) => parse(json).attention.map(({ window }) => window)

describe("ModelConfig.fromJson", () => {
  it("does not believe in more positions than Charter computes", () => {
    expect(parse({ ...llama, max_position_embeddings: 2 ** 31 - 1 }).maxPositions).toBe(131_072)
  })

  it("takes transformers' defaults for what is left out", () => {
    const { attention, ...rest } = parse({ model_type: "llama" })
    expect(rest).toEqual({
      family: "llama",
      hiddenSize: 4096,
      intermediateSize: 11008,
      layers: 32,
      heads: 32,
      kvHeads: 32,
      headDim: 128,
      vocabSize: 32000,
      normEps: 1e-6,
      activation: "silu",
      maxPositions: 2048,
      tieEmbeddings: false,
      biases: { qkv: false, output: false, mlp: false },
      attentionScale: 1 / Math.sqrt(128),
      logitSoftCap: undefined
    })
    const rope = { kind: "default", theta: 10000, dims: 128 }
    expect(attention).toEqual(Array.from({ length: 32 }, () => ({ window: undefined, rope })))
  })

  it("has defaults for every family", () => {
    const widths = Object.keys(Family.families).map((model_type) => {
      const { headDim, heads, kvHeads, normEps } = parse({ model_type })
      return [model_type, heads, kvHeads, headDim, normEps]
    })
    expect(widths).toEqual([
      ["llama", 32, 32, 128, 1e-6],
      ["mistral", 32, 8, 128, 1e-6],
      ["ministral", 32, 8, 128, 1e-6],
      ["qwen2", 32, 32, 128, 1e-6],
      ["qwen3", 32, 32, 128, 1e-6],
      ["gemma3_text", 8, 4, 256, 1e-6],
      ["phi3", 32, 32, 96, 1e-5],
      ["smollm3", 16, 4, 128, 1e-6],
      ["olmo2", 32, 32, 128, 1e-5]
    ])
  })

  it("takes a null for the number of key-value heads as that of the query heads", () => {
    expect(parse({ model_type: "mistral", num_key_value_heads: null }).kvHeads).toBe(32)
    expect(parse({ model_type: "mistral" }).kvHeads).toBe(8)
  })

  it("reads how gemma3_text scales scores and bounds logits, which no other family does", () => {
    const caps = { ...small, query_pre_attn_scalar: 4, final_logit_softcapping: 30 }
    const gemma = { attentionScale: 1 / 2, logitSoftCap: 30, activation: "gelu_pytorch_tanh" }
    expect(parse({ ...caps, model_type: "gemma3_text" })).toMatchObject(gemma)
    expect(parse({ ...small, model_type: "gemma3_text" })).toMatchObject({
      attentionScale: 1 / 16,
      logitSoftCap: undefined
    })
    expect(parse({ ...caps, model_type: "llama" })).toMatchObject({ attentionScale: 1 / 4, logitSoftCap: undefined })
  })

  it("reads the activation from hidden_activation in gemma3_text, and from hidden_act elsewhere", () => {
    const both = { ...small, hidden_act: "silu", hidden_activation: "gelu_pytorch_tanh" }
    expect(parse({ ...both, model_type: "gemma3_text" }).activation).toBe("gelu_pytorch_tanh")
    expect(parse({ ...both, model_type: "llama" }).activation).toBe("silu")
    expect(parse({ ...small, model_type: "gemma3_text", hidden_act: "silu" }).activation).toBe("gelu_pytorch_tanh")
    expect(parse({ ...llama, hidden_activation: "gelu" }).activation).toBe("silu")
    expect(refusal({ ...small, model_type: "gemma3_text", hidden_activation: "gelu" })).toContain("the activation gelu")
  })

  it("names what it does not compute, and what it knows", () => {
    expect(refusal({ model_type: "gpt2" })).toBe(
      "config.json has the model_type gpt2; Charter knows llama, mistral, ministral, qwen2, qwen3, gemma3_text, phi3, smollm3, olmo2."
    )
    expect(refusal({ model_type: "toString" })).toContain("Charter knows llama")
    expect(refusal({ model_type: "gemma3", text_config: {} })).toContain("the model_type gemma3; Charter knows")
    expect(refusal({})).toContain("has no model_type")
    expect(refusal(null)).toContain("has no model_type")
    expect(refusal({ ...llama, hidden_act: "gelu" })).toContain(
      "the activation gelu; Charter knows silu, gelu_pytorch_tanh"
    )
    expect(refusal({ ...llama, rope_scaling: { type: "dynamic", factor: 2 } })).toContain(
      "the rotary embedding dynamic; Charter knows default, linear, llama3, yarn"
    )
    expect(refusal({ ...llama, model_type: "gemma3_text", use_bidirectional_attention: true })).toContain(
      "use_bidirectional_attention"
    )
    for (const is_causal of [false, null]) {
      expect(refusal({ ...llama, model_type: "qwen2", is_causal })).toContain(
        "has an is_causal that is not true; Charter knows causal attention alone"
      )
    }
    expect(refusal({ ...llama, quantization_config: { quant_method: "gptq" } })).toContain("quantization_config")
    expect(refusal({ ...llama, model_type: "qwen3", layer_types: ["full_attention", "chunked_attention"] })).toContain(
      "a layer of chunked_attention; Charter knows full_attention, sliding_attention"
    )
  })

  it("refuses numbers that cannot be a network's", () => {
    expect(refusal({ ...llama, hidden_size: 0 })).toContain("hidden_size")
    expect(refusal({ ...llama, num_hidden_layers: 1e9 })).toContain("num_hidden_layers")
    expect(refusal({ ...llama, num_key_value_heads: 3 })).toContain("4 attention heads for 3 key-value heads")
    expect(refusal({ ...llama, hidden_size: 66 })).toContain("heads of 16.5 dimensions")
    expect(refusal({ ...llama, model_type: "qwen2", layer_types: ["full_attention"] })).toContain(
      "1 layer_types for 2 layers"
    )
    expect(refusal({ ...llama, model_type: "smollm3", no_rope_layers: [1] })).toContain(
      "1 numbers in no_rope_layers for 2 layers"
    )
    fc.assert(
      fc.property(
        fc.record({
          model_type: fc.constantFrom(...Object.keys(Family.families)),
          hidden_size: fc.jsonValue(),
          num_attention_heads: fc.jsonValue(),
          rope_parameters: fc.jsonValue(),
          layer_types: fc.jsonValue()
        }),
        (json) => {
          const result = ModelConfig.fromJson({ ...llama, ...json }, "config.json")
          expect(Result.isSuccess(result) || result.failure instanceof ModelConfig.ModelConfigError).toBe(true)
        }
      )
    )
  })
})

describe("rotary positions", () => {
  const plain = { kind: "default", theta: 10000, dims: 16 }

  it("have their base in the old place or the new one", () => {
    expect(ropes({ ...llama, rope_theta: 5, rope_scaling: null })[0]).toEqual({ ...plain, theta: 5 })
    expect(ropes({ ...llama, rope_parameters: { rope_type: "default", rope_theta: 6 } })[0]).toEqual({
      ...plain,
      theta: 6
    })
    expect(ropes({ ...llama, rope_theta: 7, rope_parameters: { rope_type: "default" } })[0]).toEqual({
      ...plain,
      theta: 7
    })
  })

  it("have their kind in the old place or the new one", () => {
    const keys = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 512 }
    const llama3 = {
      kind: "llama3",
      theta: 5e5,
      dims: 16,
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalPositions: 512
    }
    expect(ropes({ ...llama, rope_theta: 5e5, rope_scaling: { rope_type: "llama3", ...keys } })[1]).toEqual(llama3)
    expect(ropes({ ...llama, rope_parameters: { rope_type: "llama3", rope_theta: 5e5, ...keys } })[1]).toEqual(llama3)
    expect(ropes({ ...llama, rope_scaling: { type: "linear", factor: 2 } })[0]).toEqual({
      ...plain,
      kind: "linear",
      factor: 2
    })
  })

  it("of YaRN take its paper's defaults", () => {
    const yarn = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 64 }
    expect(ropes({ ...llama, rope_scaling: yarn })[0]).toEqual({
      ...plain,
      kind: "yarn",
      factor: 4,
      attentionFactor: 0.1 * Math.log(4) + 1,
      betaFast: 32,
      betaSlow: 1,
      originalPositions: 64,
      truncate: true
    })
    for (const [truncate, rounded] of [
      [true, true],
      [false, false],
      [null, false]
    ]) {
      expect(ropes({ ...llama, rope_scaling: { ...yarn, truncate } })[0]).toMatchObject({ truncate: rounded })
    }
    expect(ropes({ ...llama, rope_scaling: { ...yarn, mscale: 2, mscale_all_dim: 1 } })[0]).toMatchObject({
      attentionFactor: (0.2 * Math.log(4) + 1) / (0.1 * Math.log(4) + 1)
    })
    expect(ropes({ ...llama, rope_scaling: { ...yarn, attention_factor: 0.5 } })[0]).toMatchObject({
      attentionFactor: 0.5
    })
  })

  it("need their kind's numbers", () => {
    expect(refusal({ ...llama, rope_scaling: { type: "linear" } })).toContain("linear without factor")
    expect(refusal({ ...llama, rope_parameters: { rope_type: "llama3", factor: 8 } })).toContain(
      "llama3 without low_freq_factor"
    )
    expect(
      refusal({
        ...llama,
        rope_parameters: { rope_type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 4 }
      })
    ).toContain("the first must be the larger one")
    const yarn = { type: "yarn", factor: 4 }
    expect(refusal({ ...llama, rope_theta: 1, rope_scaling: yarn })).toContain("yarn makes no angles")
    expect(refusal({ ...llama, rope_scaling: { ...yarn, mscale: -1e9, mscale_all_dim: 1 } })).toContain("no angles")
    expect(refusal({ ...llama, model_type: "phi3", rope_scaling: { type: "su" } })).toContain(
      "longrope without short_factor"
    )
    expect(refusal({ ...llama, model_type: "phi3", rope_scaling: { type: "longrope", short_factor: [1] } })).toContain(
      "1 numbers in short_factor"
    )
  })

  it("differ by kind of layer in gemma3_text, in old files and in new ones", () => {
    const gemma = { ...small, model_type: "gemma3_text", head_dim: 16, sliding_window_pattern: 2 }
    const full = { kind: "linear", theta: 2e6, dims: 16, factor: 8 }
    const sliding = { ...plain, theta: 5e3 }
    expect(
      ropes({
        ...gemma,
        rope_theta: 2e6,
        rope_local_base_freq: 5e3,
        rope_scaling: { rope_type: "linear", factor: 8 }
      })
    ).toEqual([sliding, full])
    expect(
      ropes({
        ...gemma,
        rope_parameters: {
          full_attention: { rope_type: "linear", factor: 8, rope_theta: 2e6 },
          sliding_attention: { rope_type: "default", rope_theta: 5e3 }
        }
      })
    ).toEqual([sliding, full])
    expect(ropes(gemma)).toEqual([
      { ...plain, theta: 1e4 },
      { ...plain, theta: 1e6 }
    ])
    const flat = { rope_type: "default", rope_theta: 5 }
    expect(refusal({ ...gemma, rope_parameters: flat })).toContain("one rope_parameters for all layers")
    expect(refusal({ ...llama, rope_parameters: { full_attention: flat } })).toContain("give one for all layers")
  })

  it("of gemma3_text round YaRN's ramp unless truncate beside the kinds of layers says no", () => {
    const gemma = { ...small, model_type: "gemma3_text", head_dim: 16, sliding_window_pattern: 2 }
    const yarn = { rope_type: "yarn", factor: 4 }
    const truncates = (json: object) =>
      ropes({ ...gemma, ...json }).map((rope) => rope?.kind === "yarn" && rope.truncate)
    const inside = { full_attention: { ...yarn, truncate: false }, sliding_attention: yarn }
    expect(truncates({ rope_parameters: inside })).toEqual([true, true])
    expect(truncates({ rope_parameters: { ...inside, truncate: false } })).toEqual([false, false])
    expect(truncates({ rope_parameters: { ...inside, truncate: null } })).toEqual([false, false])
    expect(truncates({ rope_scaling: { ...yarn, truncate: false } })).toEqual([false, true])
    expect(ropes({ ...llama, rope_parameters: { ...yarn, truncate: false } })[0]).toMatchObject({ truncate: false })
  })

  it("of gemma3_text take original_max_position_embeddings from the keys of the layers alone", () => {
    const gemma = {
      ...small,
      model_type: "gemma3_text",
      head_dim: 16,
      sliding_window_pattern: 2,
      max_position_embeddings: 4096,
      original_max_position_embeddings: 300
    }
    const yarn = { rope_type: "yarn", factor: 4 }
    const original = (keys: object) => ropes({ ...gemma, rope_parameters: { full_attention: { ...yarn, ...keys } } })[1]
    expect(original({ original_max_position_embeddings: 64 })).toMatchObject({ originalPositions: 64 })
    expect(original({})).toMatchObject({ originalPositions: 4096 })
    expect(ropes({ ...gemma, rope_scaling: yarn })[1]).toMatchObject({ originalPositions: 4096 })
    expect(
      ropes({ ...gemma, model_type: "llama", rope_parameters: { ...yarn, original_max_position_embeddings: 64 } })[1]
    ).toMatchObject({ originalPositions: 300 })
  })

  it("may leave a part of each head alone in phi3, and nowhere else", () => {
    const partial = { ...llama, model_type: "phi3", partial_rotary_factor: 0.5 }
    expect(ropes(partial)[0]).toEqual({ ...plain, dims: 8 })
    expect(ropes({ ...partial, rope_parameters: { rope_theta: 3, partial_rotary_factor: 0.75 } })[0]).toEqual({
      ...plain,
      theta: 3,
      dims: 12
    })
    expect(refusal({ ...partial, partial_rotary_factor: 0.3125 })).toContain("rotates 5 of the 16 dimensions")
    expect(refusal({ ...partial, model_type: "llama" })).toContain("a partial_rotary_factor of 0.5")
  })

  it("keep a LongRoPE within its original context", () => {
    const { attention, maxPositions } = parse({
      ...llama,
      model_type: "phi3",
      max_position_embeddings: 4096,
      original_max_position_embeddings: 1024,
      rope_scaling: { type: "su", short_factor: Array(8).fill(1.5), long_factor: Array(8).fill(3) }
    })
    expect(maxPositions).toBe(1024)
    expect(attention[0]!.rope).toEqual({
      ...plain,
      kind: "longrope",
      shortFactors: Array(8).fill(1.5),
      attentionFactor: Math.sqrt(1 + Math.log(4) / Math.log(1024))
    })
  })

  it("are left out of some layers of smollm3", () => {
    const model = { ...llama, model_type: "smollm3", num_hidden_layers: 4 }
    const rotates = (json: unknown) => ropes(json).map((rope) => rope !== undefined)
    expect(rotates(model)).toEqual([true, true, true, false])
    expect(rotates({ ...model, no_rope_layer_interval: 2 })).toEqual([true, false, true, false])
    expect(rotates({ ...model, no_rope_layers: [0, 1, 1, 0] })).toEqual([false, true, true, false])
  })
})

describe("sliding windows", () => {
  it("are those of every layer in mistral and phi3, and of none in llama and olmo2", () => {
    const window = { ...small, sliding_window: 8 }
    expect(windows({ ...window, model_type: "mistral" })).toEqual([8, 8])
    expect(windows({ ...window, model_type: "phi3" })).toEqual([8, 8])
    expect(windows({ ...window, model_type: "llama" })).toEqual([undefined, undefined])
    expect(windows({ ...window, model_type: "olmo2" })).toEqual([undefined, undefined])
    expect(windows({ ...small, model_type: "mistral" })).toEqual([4096, 4096])
    expect(windows({ ...small, model_type: "mistral", sliding_window: null })).toEqual([undefined, undefined])
  })

  it("are those of the layers that layer_types names in mistral, and phi3 does not ask it", () => {
    const window = { ...small, sliding_window: 8, layer_types: ["sliding_attention", "full_attention"] }
    expect(windows({ ...window, model_type: "mistral" })).toEqual([8, undefined])
    expect(windows({ ...window, model_type: "mistral", layer_types: null })).toEqual([8, 8])
    // As which transformers 5 saves it.
    expect(windows({ ...window, model_type: "ministral" })).toEqual([8, undefined])
    expect(windows({ ...window, model_type: "phi3" })).toEqual([8, 8])
    expect(refusal({ ...window, model_type: "mistral", sliding_window: null })).toContain("without a sliding_window")
    expect(refusal({ ...window, model_type: "mistral", layer_types: ["full_attention"] })).toContain(
      "1 layer_types for 2 layers"
    )
  })

  it("need their switch in qwen2 and qwen3, and then are those of the upper layers", () => {
    for (const model_type of ["qwen2", "qwen3"]) {
      const window = { ...small, model_type, sliding_window: 8, max_window_layers: 1 }
      expect(windows(window)).toEqual([undefined, undefined])
      expect(windows({ ...window, use_sliding_window: true })).toEqual([undefined, 8])
      const layer_types = ["sliding_attention", "full_attention"]
      expect(windows({ ...window, use_sliding_window: true, layer_types })).toEqual([8, undefined])
      expect(refusal({ ...window, layer_types })).toContain("layers of sliding_attention")
    }
  })

  it("are those of five layers of six in gemma3_text, and of those without rotary positions in smollm3", () => {
    const window = { ...small, num_hidden_layers: 7, sliding_window: 8 }
    expect(windows({ ...window, model_type: "gemma3_text" })).toEqual([8, 8, 8, 8, 8, undefined, 8])
    expect(windows({ ...window, model_type: "smollm3", use_sliding_window: true })).toEqual([
      undefined,
      undefined,
      undefined,
      8,
      undefined,
      undefined,
      undefined
    ])
  })
})

describe("ModelConfig tensors", () => {
  const config = parse({ ...llama, tie_word_embeddings: true })
  const names = (json: unknown) =>
    [...ModelConfig.parameters(parse(json)).keys()]
      .filter((name) => name.startsWith("model.layers.1."))
      .map((name) => name.slice("model.layers.1.".length))

  it("lists the linear maps in order, with the norms that they read", () => {
    const found = ModelConfig.linears(config)
    expect(found.length).toBe(14)
    const [attending, feeding] = ["model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"]
    expect(found.slice(0, 7)).toEqual([
      { path: "model.layers.0.self_attn.q_proj", in: 64, out: 64, bias: false, norm: attending },
      { path: "model.layers.0.self_attn.k_proj", in: 64, out: 32, bias: false, norm: attending },
      { path: "model.layers.0.self_attn.v_proj", in: 64, out: 32, bias: false, norm: attending },
      { path: "model.layers.0.self_attn.o_proj", in: 64, out: 64, bias: false, norm: undefined },
      { path: "model.layers.0.mlp.gate_proj", in: 64, out: 160, bias: false, norm: feeding },
      { path: "model.layers.0.mlp.up_proj", in: 64, out: 160, bias: false, norm: feeding },
      { path: "model.layers.0.mlp.down_proj", in: 160, out: 64, bias: false, norm: undefined }
    ])
    expect(ModelConfig.linears(parse({ ...llama, model_type: "phi3" })).slice(0, 4)).toEqual([
      { path: "model.layers.0.self_attn.qkv_proj", in: 64, out: 128, bias: false, norm: attending },
      { path: "model.layers.0.self_attn.o_proj", in: 64, out: 64, bias: false, norm: undefined },
      { path: "model.layers.0.mlp.gate_up_proj", in: 64, out: 320, bias: false, norm: feeding },
      { path: "model.layers.0.mlp.down_proj", in: 160, out: 64, bias: false, norm: undefined }
    ])
    // Its norms stand behind the maps.
    const olmo = ModelConfig.linears(parse({ ...llama, model_type: "olmo2" }))
    expect(olmo.every(({ norm }) => norm === undefined)).toBe(true)
  })

  it("asks for a head only when it is untied and for biases only when configured", () => {
    const tied = ModelConfig.parameters(config)
    expect(tied.size).toBe(20)
    expect(tied.get("model.layers.1.mlp.down_proj.weight")).toEqual([64, 160])
    expect(tied.has("lm_head.weight")).toBe(false)
    const more = ModelConfig.parameters(parse({ ...llama, attention_bias: true, mlp_bias: true }))
    expect(more.size).toBe(20 + 1 + 14)
    expect(more.get("lm_head.weight")).toEqual([320, 64])
    expect(more.get("model.layers.1.self_attn.k_proj.bias")).toEqual([32])
  })

  it("gives each family its norms and biases", () => {
    const maps = ["q", "k", "v", "o"].map((name) => `self_attn.${name}_proj.weight`)
    const mlp = ["gate", "up", "down"].map((name) => `mlp.${name}_proj.weight`)
    const queryKeyNorms = ["self_attn.q_norm.weight", "self_attn.k_norm.weight"]
    const norms = ["input_layernorm.weight", "post_attention_layernorm.weight"]
    const around = ["pre_feedforward_layernorm.weight", "post_feedforward_layernorm.weight"]
    const of = (model_type: string) => new Set(names({ ...llama, model_type }))
    expect(of("mistral")).toEqual(new Set([...maps, ...mlp, ...norms]))
    const biases = ["q", "k", "v"].map((name) => `self_attn.${name}_proj.bias`)
    expect(of("qwen2")).toEqual(new Set([...maps, ...biases, ...mlp, ...norms]))
    expect(of("qwen3")).toEqual(new Set([...maps, ...mlp, ...norms, ...queryKeyNorms]))
    expect(of("gemma3_text")).toEqual(new Set([...maps, ...mlp, ...norms, ...around, ...queryKeyNorms]))
    expect(of("olmo2")).toEqual(new Set([...maps, ...mlp, norms[1]!, around[1]!, ...queryKeyNorms]))
  })

  it("gives norms of queries and keys the width of a head or of all of them", () => {
    const shape = (model_type: string) =>
      ModelConfig.parameters(parse({ ...llama, model_type, head_dim: 32 })).get(
        "model.layers.0.self_attn.q_norm.weight"
      )
    expect(shape("qwen3")).toEqual([32])
    expect(shape("olmo2")).toEqual([128])
  })
})
