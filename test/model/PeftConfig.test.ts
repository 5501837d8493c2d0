import { describe, expect, it } from "@effect/vitest"
import { Result } from "effect"
import * as PeftConfig from "../../src/model/PeftConfig.ts"

const json = { peft_type: "LORA", task_type: "CAUSAL_LM", r: 8, lora_alpha: 16, target_modules: ["q_proj"] }
const plain = { rank: 8, alpha: 16, targets: ["q_proj"], taskType: "CAUSAL_LM" }

/** What a configuration with these keys is, or why it is none. */
const read = (change: object) => Result.merge(PeftConfig.fromJson({ ...json, ...change }))

describe("adapter_config.json", () => {
  it("is read with what changes the numbers of an adapter, and without what is off", () => {
    expect(read({})).toEqual(plain)
    expect(read({ task_type: null })).toEqual(plain)
    expect(read({ r: 1, lora_alpha: 0.5 })).toEqual({ ...plain, rank: 1, alpha: 0.5 })
    const off = {
      rank_pattern: {},
      alpha_pattern: null,
      modules_to_save: [],
      use_rslora: false,
      layers_to_transform: []
    }
    expect(read({ ...off, use_dora: false, megatron_config: null, exclude_modules: {} })).toEqual(plain)
    const on = { rank_pattern: { q: 4 }, alpha_pattern: { q: 2 }, modules_to_save: ["lm_head"], use_rslora: true }
    expect(read(on)).toEqual({
      ...plain,
      rankPattern: { q: 4 },
      alphaPattern: { q: 2 },
      modulesToSave: ["lm_head"],
      rsLora: true
    })
  })

  it("names the head of a reward model as PEFT does, beside which other modules may be saved", () => {
    const reward = { task_type: "SEQ_CLS", modules_to_save: ["classifier", "score", "embed_tokens"] }
    expect(read(reward)).toEqual({ ...plain, taskType: "SEQ_CLS", modulesToSave: ["embed_tokens"] })
    expect(read({ ...reward, modules_to_save: ["score"] })).toEqual({ ...plain, taskType: "SEQ_CLS" })
    // To speak, a head of such a name is a module like any other.
    expect(read({ modules_to_save: ["score"] })).toEqual({ ...plain, modulesToSave: ["score"] })
  })

  it("is refused by the name of what would compute another model", () => {
    const refused = (key: string, value: unknown) =>
      expect(read({ [key]: value }), key).toContain(`uses ${key} (${JSON.stringify(value)})`)
    for (const key of ["use_dora", "fan_in_fan_out", "lora_bias", "ensure_weight_tying"]) refused(key, true)
    refused("layers_to_transform", [0])
    refused("layer_replication", [[0, 2]])
    refused("target_parameters", ["mlp.experts"])
    refused("layers_to_transform", 0)
    refused("bias", "all")
    refused("task_type", "TOKEN_CLS")
    refused("modules_to_save", [""])
    expect(read({ bias: "none" })).toEqual(plain)
  })

  it("may have been begun in any way that leaves the base as it was", () => {
    for (const way of [true, false, "gaussian", "eva", "orthogonal"]) {
      expect(read({ init_lora_weights: way })).toEqual(plain)
    }
    for (const way of ["pissa", "olora", "corda", "loftq"]) {
      expect(read({ init_lora_weights: way })).toContain(`uses init_lora_weights ("${way}")`)
    }
  })

  it("is told from those of other kinds of adapters, and from what is none", () => {
    expect(Result.merge(PeftConfig.fromJson({ peft_type: "IA3" }))).toContain('is of the peft_type "IA3"')
    for (const wrong of [
      { r: 0 },
      { r: 1.5 },
      { lora_alpha: 0 },
      { target_modules: null },
      { rank_pattern: { q: 0 } }
    ]) {
      expect(read(wrong)).toContain("does not describe a LoRA")
    }
  })

  it("is read again as it was written", () => {
    const reward = {
      ...plain,
      taskType: "SEQ_CLS",
      rankPattern: { q: 4 },
      alphaPattern: { q: 2 },
      rsLora: true
    } as const
    for (const config of [
      plain,
      reward,
      { ...reward, modulesToSave: ["lm_head"] }
    ] as ReadonlyArray<PeftConfig.PeftConfig>) {
      const written = PeftConfig.toJson(config, { name: "base", revision: "abc" })
      expect(Result.merge(PeftConfig.fromJson(written))).toEqual(config)
      expect([written.base_model_name_or_path, written.revision]).toEqual(["base", "abc"])
    }
    expect(PeftConfig.toJson(reward, { name: "base", revision: null }).modules_to_save).toEqual(["score"])
    expect(PeftConfig.toJson(plain as PeftConfig.PeftConfig, { name: "b", revision: null }).modules_to_save).toBeNull()
  })
})
