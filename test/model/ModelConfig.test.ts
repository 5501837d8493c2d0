import { describe, expect, it } from "@effect/vitest"
import { Result } from "effect"
import * as fc from "fast-check"
import * as ModelConfig from "../../src/model/ModelConfig.ts"

const llama = {
  model_type: "llama",
  hidden_size: 64,
  num_attention_heads: 4,
  num_hidden_layers: 2,
  intermediate_size: 160
}
const parse = (json: unknown) => Result.getOrThrow(ModelConfig.fromJson(json, "config.json"))
const refusal = (json: unknown) => Result.getOrThrow(Result.flip(ModelConfig.fromJson(json, "config.json"))).message

describe("ModelConfig.fromJson", () => {
  it("takes transformers' defaults for what is left out", () => {
    expect(parse({ model_type: "llama" })).toEqual({
      family: "llama",
      hiddenSize: 4096,
      intermediateSize: 11008,
      layers: 32,
      heads: 32,
      kvHeads: 32,
      headDim: 128,
      vocabSize: 32000,
      normEps: 1e-6,
      ropeTheta: 10000,
      maxPositions: 2048,
      tieEmbeddings: false,
      attentionBias: false,
      mlpBias: false
    })
  })

  it("reads the rotary base from both places", () => {
    expect(parse({ ...llama, rope_theta: 5, rope_scaling: null }).ropeTheta).toBe(5)
    expect(parse({ ...llama, rope_parameters: { rope_type: "default", rope_theta: 6 } }).ropeTheta).toBe(6)
    expect(parse({ ...llama, rope_theta: 7, rope_parameters: { rope_type: "default" } }).ropeTheta).toBe(7)
  })

  it("names what it does not compute", () => {
    expect(refusal({ model_type: "gpt2" })).toBe("config.json has the model_type gpt2; Charter knows llama.")
    expect(refusal({ model_type: "toString" })).toContain("Charter knows llama")
    expect(refusal({})).toContain("has no model_type")
    expect(refusal(null)).toContain("has no model_type")
    expect(refusal({ ...llama, hidden_act: "gelu" })).toContain("the activation gelu")
    expect(refusal({ ...llama, rope_scaling: { type: "linear", factor: 2 } })).toContain("the rotary embedding linear")
    expect(refusal({ ...llama, rope_parameters: { rope_type: "llama3" } })).toContain("the rotary embedding llama3")
  })

  it("refuses numbers that cannot be a network's", () => {
    expect(refusal({ ...llama, hidden_size: 0 })).toContain("hidden_size")
    expect(refusal({ ...llama, num_hidden_layers: 1e9 })).toContain("num_hidden_layers")
    expect(refusal({ ...llama, num_key_value_heads: 3 })).toContain("4 attention heads for 3 key-value heads")
    expect(refusal({ ...llama, hidden_size: 66 })).toContain("heads of 16.5 dimensions")
    fc.assert(
      fc.property(
        fc.record({
          hidden_size: fc.jsonValue(),
          num_attention_heads: fc.jsonValue(),
          rope_parameters: fc.jsonValue()
        }),
        (json) => {
          const result = ModelConfig.fromJson({ ...llama, ...json }, "config.json")
          expect(Result.isSuccess(result) || result.failure instanceof ModelConfig.ModelConfigError).toBe(true)
        }
      )
    )
  })
})

describe("ModelConfig tensors", () => {
  const config = parse({ ...llama, num_key_value_heads: 2, tie_word_embeddings: true })

  it("lists the linear maps in order", () => {
    const found = ModelConfig.linears(config)
    expect(found.length).toBe(14)
    expect(found.slice(0, 7)).toEqual([
      { path: "model.layers.0.self_attn.q_proj", in: 64, out: 64 },
      { path: "model.layers.0.self_attn.k_proj", in: 64, out: 32 },
      { path: "model.layers.0.self_attn.v_proj", in: 64, out: 32 },
      { path: "model.layers.0.self_attn.o_proj", in: 64, out: 64 },
      { path: "model.layers.0.mlp.gate_proj", in: 64, out: 160 },
      { path: "model.layers.0.mlp.up_proj", in: 64, out: 160 },
      { path: "model.layers.0.mlp.down_proj", in: 160, out: 64 }
    ])
  })

  it("asks for a head only when it is untied and for biases only when configured", () => {
    const tied = ModelConfig.parameters(config)
    expect(tied.size).toBe(20)
    expect(tied.get("model.layers.1.mlp.down_proj.weight")).toEqual([64, 160])
    expect(tied.has("lm_head.weight")).toBe(false)
    const more = ModelConfig.parameters({ ...config, tieEmbeddings: false, attentionBias: true, mlpBias: true })
    expect(more.size).toBe(20 + 1 + 14)
    expect(more.get("lm_head.weight")).toEqual([32000, 64])
    expect(more.get("model.layers.0.self_attn.k_proj.bias")).toEqual([32])
  })
})
