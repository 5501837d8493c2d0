import { describe, expect, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"
import { temporaryFolder } from "./temporaryFolder.ts"

const tiny = path.join(import.meta.dirname, "../fixtures/tiny-llama")
const model = Effect.map(Checkpoint.open(tiny), (checkpoint) => checkpoint.config)
const config: Lora.LoraConfig = { rank: 4, alpha: 8, targets: "all-linear" }
const deviation = (data: Float32Array) => Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length)

const bytes = (folder: string) => Effect.promise(() => fs.readFile(path.join(folder, "adapter_model.safetensors")))

describe("Lora.init", () => {
  it.effect("starts as the base model, a function of its seed", () =>
    Effect.gen(function* () {
      const base = yield* model
      const adapter = Result.getOrThrow(Lora.init(base, { ...config, rank: 32 }, 1, { score: true }))
      expect(adapter.taskType).toBe("SEQ_CLS")
      expect(adapter.tensors.size).toBe(2 * 7 * 2 + 1)
      const a = adapter.tensors.get("model.layers.1.mlp.down_proj.lora_A")!
      expect(a.shape).toEqual([32, 160])
      expect(deviation(a.data) * Math.sqrt(160)).toBeCloseTo(1, 1)
      const b = adapter.tensors.get("model.layers.1.mlp.down_proj.lora_B")!
      expect(b.shape).toEqual([64, 32])
      expect(b.data.every((x) => x === 0)).toBe(true)
      const score = adapter.tensors.get("score")!
      expect(score.shape).toEqual([1, 64])
      expect(Math.abs(deviation(score.data) - 0.02)).toBeLessThan(0.008)

      expect(Lora.init(base, config, 1)).toEqual(Lora.init(base, config, 1))
      expect(Lora.init(base, config, 1)).not.toEqual(Lora.init(base, config, 2))
    })
  )

  it.effect("adapts only the targets and refuses what fits nothing", () =>
    Effect.gen(function* () {
      const base = yield* model
      const some = Result.getOrThrow(Lora.init(base, { ...config, targets: ["v_proj", "q_proj"] }, 1))
      expect([...some.tensors.keys()].slice(0, 4)).toEqual([
        "model.layers.0.self_attn.q_proj.lora_A",
        "model.layers.0.self_attn.q_proj.lora_B",
        "model.layers.0.self_attn.v_proj.lora_A",
        "model.layers.0.self_attn.v_proj.lora_B"
      ])
      expect(some.tensors.size).toBe(8)
      const refusal = (change: Partial<Lora.LoraConfig>) =>
        Result.getOrThrow(Result.flip(Lora.init(base, { ...config, ...change }, 1))).message
      // Only whole parts of a module's name count, as in PEFT.
      expect(refusal({ targets: ["proj"] })).toContain("the target proj, which no linear map of the model has")
      expect(refusal({ targets: [] })).toContain("no targets")
      expect(refusal({ rank: 0 })).toContain("the rank 0")
      expect(refusal({ alpha: NaN })).toContain("the alpha NaN")
    })
  )
})

describe("Lora of patterns", () => {
  const shapesOf = Effect.fnUntraced(function* (change: Partial<Lora.LoraConfig>) {
    const { scales, tensors } = yield* Effect.fromResult(Lora.init(yield* model, { ...config, ...change }, 1))
    return {
      scales,
      ranks: new Map(
        [...tensors].filter(([name]) => name.endsWith("A")).map(([name, { shape }]) => [name.slice(0, -7), shape[0]])
      )
    }
  })
  const q0 = "model.layers.0.self_attn.q_proj"
  const q1 = "model.layers.1.self_attn.q_proj"
  const down = "model.layers.1.mlp.down_proj"

  it.effect("gives single maps their own rank and alpha: the first pattern that matches the end of a name", () =>
    Effect.gen(function* () {
      const { ranks, scales } = yield* shapesOf({
        rankPattern: { "layers.0.self_attn.q_proj": 2, q_proj: 8, "^model.layers.1.mlp.*": 16, proj: 1 },
        alphaPattern: { "q_proj|down_proj": 32 }
      })
      expect([ranks.get(q0), ranks.get(q1), ranks.get(down), ranks.get("model.layers.0.mlp.down_proj")]).toEqual([
        2, 8, 16, 4
      ])
      expect([scales.get(q0), scales.get(q1), scales.get(down)]).toEqual([16, 4, 2])
      expect(scales.get("model.layers.0.mlp.up_proj")).toBe(2)
    })
  )

  it.effect("scales by the root of the rank where use_rslora says so", () =>
    Effect.gen(function* () {
      const { scales } = yield* shapesOf({ rank: 16, rsLora: true, rankPattern: { q_proj: 4 } })
      expect([scales.get(down), scales.get(q0)]).toEqual([2, 4])
    })
  )

  it.effect("takes a pattern for whole names, in Python's spelling, and all-linear", () =>
    Effect.gen(function* () {
      const { ranks } = yield* shapesOf({ targets: String.raw`model\.layers\.(?P<layer>1)\..*(q_proj|down_proj)\Z` })
      expect([...ranks.keys()]).toEqual([q1, down])
      expect((yield* shapesOf({ targets: "All-Linear" })).ranks.size).toBe(14)
      const refusal = (targets: string) => Effect.map(Effect.flip(shapesOf({ targets })), (error) => error.message)
      // Unlike the end of a name in a list, a part of a name is not enough.
      expect(yield* refusal("q_proj")).toContain("adapts q_proj, which the model does not have")
      expect(yield* refusal("(?P<a")).toContain("which is not understood")
    })
  )

  it.effect("is not kept busy by a pattern that backtracks without end", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(shapesOf({ targets: "(.*.*)*#" }))
      expect(error.message).toContain("takes too long")
    })
  )
})

describe("Lora files", () => {
  it.effect("reads PEFT's adapter and writes the same bytes", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const adapter = yield* Lora.read(path.join(tiny, "adapter"), yield* model)
      expect([...adapter.config.targets].toSorted()).toEqual(Lora.allTargets(yield* model).toSorted())
      expect([adapter.config.rank, adapter.config.alpha, adapter.scales.size]).toEqual([4, 8, 14])
      expect(new Set(adapter.scales.values())).toEqual(new Set([2]))
      yield* Lora.write(dir, adapter, "base")
      expect(yield* Lora.read(dir)).toEqual(adapter)
      expect((yield* bytes(dir)).equals(yield* bytes(path.join(tiny, "adapter")))).toBe(true)
    })
  )

  it.effect("keeps a reward model's head", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const base = yield* model
      const adapter = Result.getOrThrow(Lora.init(base, config, 3, { score: true }))
      yield* Lora.write(dir, adapter, "base")
      expect(yield* Lora.read(dir, base)).toEqual(adapter)
      const json = JSON.parse(yield* Effect.promise(() => fs.readFile(path.join(dir, "adapter_config.json"), "utf8")))
      expect(json).toMatchObject({
        peft_type: "LORA",
        task_type: "SEQ_CLS",
        modules_to_save: ["score"],
        base_model_name_or_path: "base"
      })
    })
  )

  it.effect("names the base by its name and commit when it lies in the hub's cache", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const adapter = Result.getOrThrow(Lora.init(yield* model, config, 3))
      const commit = "0123456789".repeat(4)
      const baseOf = Effect.fnUntraced(function* (base: string) {
        yield* Lora.write(dir, adapter, base)
        const json = JSON.parse(yield* Effect.promise(() => fs.readFile(path.join(dir, "adapter_config.json"), "utf8")))
        return [json.base_model_name_or_path, json.revision]
      })
      expect(yield* baseOf(`/cache/hub/models--o--n/snapshots/${commit}`)).toEqual(["o/n", commit])
      expect(yield* baseOf("/models/o")).toEqual(["/models/o", null])
    })
  )

  it.effect("keeps whole modules, the tied output projection too", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const base = { ...(yield* model), tieEmbeddings: true }
      const { tensors, ...rest } = Result.getOrThrow(Lora.init(base, config, 3))
      const whole = (...shape: [number, ...Array<number>]) => ({
        shape,
        data: new Float32Array(shape.reduce((a, b) => a * b)).fill(0.5)
      })
      const saving = (modulesToSave: ReadonlyArray<string>, more: Record<string, Lora.LoraTensor>) => ({
        ...rest,
        config: { ...rest.config, modulesToSave },
        tensors: new Map([...tensors, ...Object.entries(more)])
      })
      const adapter = saving(["norm", "lm_head"], {
        "model.layers.0.input_layernorm.weight": whole(64),
        "model.layers.0.post_attention_layernorm.weight": whole(64),
        "model.layers.1.input_layernorm.weight": whole(64),
        "model.layers.1.post_attention_layernorm.weight": whole(64),
        "model.norm.weight": whole(64),
        "lm_head.weight": whole(320, 64)
      })
      yield* Lora.write(dir, adapter, "base")
      expect(yield* Lora.read(dir, base)).toEqual(adapter)
      const names = [...(yield* Safetensors.read(path.join(dir, "adapter_model.safetensors"))).tensors.keys()]
      expect(names).toContain("base_model.model.lm_head.weight")

      yield* Lora.write(dir, saving(["embed_tokens"], { "model.embed_tokens.weight": whole(320, 64) }), "base")
      expect((yield* Effect.flip(Lora.read(dir, base))).message).toContain("replaces the embedding but not")
      const scored = { "model.embed_tokens.weight": whole(320, 64), score: whole(1, 64) }
      const reward = { ...saving(["embed_tokens"], scored), taskType: "SEQ_CLS" as const }
      yield* Lora.write(dir, reward, "base")
      expect(yield* Lora.read(dir, base)).toEqual(reward)
      const both = { ...reward, config: { ...reward.config, modulesToSave: ["embed_tokens", "lm_head"] } }
      const unused = new Map(both.tensors).set("lm_head.weight", whole(320, 64))
      for (const tensors of [both.tensors, unused]) {
        yield* Lora.write(dir, { ...both, tensors }, "base")
        expect(yield* Lora.read(dir, base)).toEqual(both)
      }
      yield* Lora.write(dir, saving(["lm_head"], { "lm_head.weight": whole(320, 32) }), "base")
      expect((yield* Effect.flip(Lora.read(dir, base))).message).toContain("has lm_head.weight of shape [320, 32]")
      yield* Lora.write(dir, saving(["lm_head"], { "lm_head.weight": whole(320, 64) }), "base")
      const weights = path.join(dir, "adapter_model.safetensors")
      const bytes = yield* Effect.promise(() => fs.readFile(weights))
      new Float32Array(bytes.buffer, bytes.byteOffset + bytes.length - 4, 1)[0] = Infinity
      yield* Effect.promise(() => fs.writeFile(weights, bytes))
      expect((yield* Effect.flip(Lora.read(dir, base))).message).toMatch(
        /safetensors holds Infinity in base_model\.model\./
      )
    })
  )

  it.effect("refuses by name what it does not compute", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const base = yield* model
      yield* Lora.write(dir, Result.getOrThrow(Lora.init(base, config, 3)), "base")
      const file = path.join(dir, "adapter_config.json")
      const json = JSON.parse(yield* Effect.promise(() => fs.readFile(file, "utf8")))
      const refusal = Effect.fnUntraced(function* (change: object) {
        yield* Effect.promise(() => fs.writeFile(file, JSON.stringify({ ...json, ...change })))
        return (yield* Effect.flip(Lora.read(dir, base))).message
      })
      expect(yield* refusal({ peft_type: "IA3" })).toContain(`of the peft_type "IA3"`)
      expect(yield* refusal({ use_dora: true })).toContain("uses use_dora (true)")
      expect(yield* refusal({ exclude_modules: ["q_proj"] })).toContain(`uses exclude_modules (["q_proj"])`)
      expect(yield* refusal({ layers_to_transform: [0] })).toContain("uses layers_to_transform")
      expect(yield* refusal({ fan_in_fan_out: true })).toContain("uses fan_in_fan_out")
      expect(yield* refusal({ rank_pattern: { q_proj: 2 } })).toContain(
        "q_proj.lora_A of shape [4, 64] though its rank is 2"
      )
      expect(yield* refusal({ rank_pattern: { q_proj: 0 } })).toContain("does not describe a LoRA")
      expect(yield* refusal({ bias: "all" })).toContain("uses bias")
      expect(yield* refusal({ init_lora_weights: "pissa" })).toContain("uses init_lora_weights")
      expect(yield* refusal({ modules_to_save: ["lm_head"] })).toContain("has no lm_head.weight, which the model needs")
      expect(yield* refusal({ task_type: "FEATURE_EXTRACTION" })).toContain("uses task_type")
      expect(yield* refusal({ target_modules: ".*q_proj" })).toContain(".lora_A, which the model does not have")
      expect(yield* refusal({ target_modules: "(" })).toContain("has the pattern (, which is not understood")
      expect(yield* refusal({ r: "x" })).toContain("does not describe a LoRA")
      expect(yield* refusal({ r: 5 })).toContain("though its rank is 5")
      expect(yield* refusal({ task_type: "SEQ_CLS" })).toContain("without a score head")
      expect(yield* refusal({ target_modules: ["q_proj"] })).toContain("which the model does not have")
      expect(yield* refusal({ target_modules: ["c_attn"] })).toContain("adapts c_attn")
    })
  )

  it.effect("says which module outside of the layers has a LoRA that it does not compute", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const base = yield* model
      yield* Lora.write(dir, Result.getOrThrow(Lora.init(base, config, 3)), "base")
      const file = path.join(dir, "adapter_model.safetensors")
      for (const [module, name] of [
        ["lm_head", "lm_head.base_layer.weight"],
        ["lm_head", "lm_head.lora_A.weight"],
        ["embed_tokens", "model.embed_tokens.lora_embedding_A"]
      ]) {
        yield* Safetensors.write(file, [{ name: `base_model.model.${name}`, shape: [1], data: new Float32Array(1) }])
        expect((yield* Effect.flip(Lora.read(dir, base))).message).toBe(
          `${file} holds a LoRA of ${module}, and Charter computes one of the maps in a model's layers alone; train the adapter with ${module} in modules_to_save, or without it.`
        )
      }
      yield* Safetensors.write(file, [{ name: "base_model.model.x", shape: [1], data: new Float32Array(1) }])
      expect((yield* Effect.flip(Lora.read(dir, base))).message).toContain("computes; save the adapter without it")
      const grown = "base_model.model.lm_head.weight"
      yield* Safetensors.write(file, [{ name: grown, shape: [1], data: new Float32Array(1) }])
      expect((yield* Effect.flip(Lora.read(dir, base))).message).toBe(
        `${file} holds ${grown}, which is no part of a LoRA that Charter computes; PEFT saves it where the model was given more tokens: merge the adapter into that model, and save it whole.`
      )
    })
  )

  it.effect("says so of an adapter whose weights are not safetensors", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const config = path.join(tiny, "adapter", "adapter_config.json")
      yield* Effect.promise(() => fs.copyFile(config, path.join(dir, "adapter_config.json")))
      yield* Effect.promise(() => fs.writeFile(path.join(dir, "adapter_model.bin"), "PK"))
      expect((yield* Effect.flip(Lora.read(dir))).message).toBe(
        `${dir} has an adapter_config.json but no adapter_model.safetensors; save the adapter's weights as safetensors.`
      )
    })
  )

  it.effect("knows another model's adapter", () =>
    Effect.gen(function* () {
      const base = yield* model
      const open = (change: Partial<typeof base>) =>
        Effect.map(Effect.flip(Lora.read(path.join(tiny, "adapter"), { ...base, ...change })), (error) => error.message)
      expect(yield* open({ hiddenSize: 128 })).toContain(
        "of shape [4, 64] where the model needs [4, 128]; it was made for another model"
      )
      expect(yield* open({ layers: 3 })).toContain("has no model.layers.2.self_attn.q_proj.lora_A")
      expect(yield* open({ layers: 1 })).toContain("which the model does not have")
      expect((yield* Effect.flip(Lora.read(tiny))).message).toContain(
        "is not an adapter because it has no adapter_config.json"
      )
    })
  )
})
