import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as ModelConfig from "../../src/model/ModelConfig.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"
import * as RealModel from "./realModel.ts"
import { temporaryFolder } from "./temporaryFolder.ts"

const tiny = path.join(import.meta.dirname, "../fixtures/tiny-llama")

const loadAll = Effect.fnUntraced(function* (checkpoint: Checkpoint.Checkpoint) {
  return yield* Effect.forEach([...checkpoint.tensors.values()], (info) =>
    Effect.map(Safetensors.load(info), (data) => ({ name: info.name, shape: info.shape, data }))
  )
})

const configJson = Effect.promise(async () => JSON.parse(await fs.readFile(path.join(tiny, "config.json"), "utf8")))
const writeText = (dir: string, name: string, text: string) =>
  Effect.promise(() => fs.writeFile(path.join(dir, name), text))

describe("Checkpoint", () => {
  it.effect("opens a model folder", () =>
    Effect.gen(function* () {
      const checkpoint = yield* Checkpoint.open(path.relative(process.cwd(), tiny))
      expect(checkpoint.dir).toBe(yield* Effect.promise(() => fs.realpath(tiny)))
      expect(checkpoint.config.layers).toBe(2)
      expect([...checkpoint.tensors.keys()].toSorted()).toEqual(
        [...ModelConfig.parameters(checkpoint.config).keys()].toSorted()
      )
      expect(checkpoint.eosTokenIds).toEqual([2])
      expect(checkpoint.bosTokenId).toBe(1)
      expect(checkpoint.padTokenId).toBe(0)
    })
  )

  it.effect("writes a folder it can open, whole or in shards", () =>
    Effect.gen(function* () {
      const dir = path.join(yield* temporaryFolder, "model")
      const json = yield* configJson
      const tensors = yield* loadAll(yield* Checkpoint.open(tiny))
      yield* Checkpoint.writeModel(dir, json, tensors, "F32")
      const copy = yield* Checkpoint.open(dir)
      expect(yield* loadAll(copy)).toEqual(tensors)
      expect(copy.padTokenId).toBe(0)

      yield* Checkpoint.writeModel(dir, json, tensors, "F16")
      expect((yield* Checkpoint.open(dir)).tensors.get("model.norm.weight")!.dtype).toBe("F16")

      yield* Effect.promise(() => fs.rm(path.join(dir, "model.safetensors")))
      yield* Safetensors.write(path.join(dir, "one.safetensors"), tensors.slice(0, 5))
      yield* Safetensors.write(path.join(dir, "two.safetensors"), tensors.slice(5))
      const weight_map = Object.fromEntries(
        tensors.map(({ name }, i) => [name, i < 5 ? "one.safetensors" : "two.safetensors"])
      )
      yield* writeText(dir, "model.safetensors.index.json", JSON.stringify({ weight_map }))
      expect(yield* loadAll(yield* Checkpoint.open(dir))).toEqual(tensors)

      const moved = { ...weight_map, [tensors[0]!.name]: "two.safetensors" }
      yield* writeText(dir, "model.safetensors.index.json", JSON.stringify({ weight_map: moved }))
      expect((yield* Effect.flip(Checkpoint.open(dir))).message).toContain("in two.safetensors, which does not hold it")

      const outside = { ...weight_map, x: "../two.safetensors" }
      yield* writeText(dir, "model.safetensors.index.json", JSON.stringify({ weight_map: outside }))
      expect((yield* Effect.flip(Checkpoint.open(dir))).message).toContain("which is not in its folder")
    })
  )

  it.effect("takes several end tokens from generation_config.json", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const { bos_token_id: _, eos_token_id: __, pad_token_id: ___, ...json } = yield* configJson
      yield* Checkpoint.writeModel(dir, json, yield* loadAll(yield* Checkpoint.open(tiny)), "F32")
      const plain = yield* Checkpoint.open(dir)
      expect([plain.eosTokenIds, plain.bosTokenId, plain.padTokenId]).toEqual([[2], 1, undefined])
      yield* writeText(dir, "generation_config.json", JSON.stringify({ eos_token_id: [5, 9] }))
      expect((yield* Checkpoint.open(dir)).eosTokenIds).toEqual([5, 9])
      yield* writeText(dir, "generation_config.json", JSON.stringify({ eos_token_id: "x" }))
      expect((yield* Effect.flip(Checkpoint.open(dir))).message).toContain("that is no token id")
    })
  )

  it.effect("is used through the links of a cache, and not through those of an index", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      for (const name of ["config.json", "model.safetensors"]) {
        yield* Effect.promise(() => fs.symlink(path.join(tiny, name), path.join(dir, name)))
      }
      expect((yield* Checkpoint.open(dir)).tensors.get("model.norm.weight")!.file).toBe(
        path.join(yield* Effect.promise(() => fs.realpath(dir)), "model.safetensors")
      )

      yield* Effect.promise(() => fs.rm(path.join(dir, "model.safetensors")))
      for (const name of ["../x", "/etc/passwd", "a/b", "a\\b", "C:x", ".", "..", "", "x\u0000"]) {
        yield* writeText(dir, "model.safetensors.index.json", JSON.stringify({ weight_map: { x: name } }))
        const error = yield* Effect.flip(Checkpoint.open(dir))
        expect(error.message).toContain("index.json names the weight file")
        expect(error.message).toContain("which is not in its folder")
      }
      yield* writeText(dir, "model.safetensors.index.json", JSON.stringify({ weight_map: { x: "gone.safetensors" } }))
      expect((yield* Effect.flip(Checkpoint.open(dir))).message).toContain(
        "names the weight file gone.safetensors, which is missing"
      )
    })
  )

  it.effect("says what is no file, no text and no token", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const message = Effect.map(Effect.flip(Checkpoint.open(dir)), (error) => error.message)
      yield* Effect.promise(() => fs.mkdir(path.join(dir, "config.json")))
      expect(yield* message).toContain("config.json cannot be read: it is no file")
      yield* Effect.promise(() => fs.rmdir(path.join(dir, "config.json")))
      yield* Effect.promise(() => fs.writeFile(path.join(dir, "config.json"), Buffer.of(0x22, 0xff, 0x22)))
      expect(yield* message).toContain("config.json is not UTF-8")
      yield* writeText(dir, "config.json", JSON.stringify(yield* configJson))
      yield* Effect.promise(() => fs.symlink("/dev/zero", path.join(dir, "model.safetensors")))
      expect(yield* message).toContain("model.safetensors cannot be read: it is no file")
      yield* Effect.promise(() => fs.rm(path.join(dir, "model.safetensors")))
      yield* Effect.promise(() =>
        fs.copyFile(path.join(tiny, "model.safetensors"), path.join(dir, "model.safetensors"))
      )
      yield* writeText(
        dir,
        "config.json",
        JSON.stringify({ ...(yield* configJson), eos_token_id: 320, pad_token_id: -1 })
      )
      expect(yield* message).toContain("config.json has the eos_token_id 320, which a vocabulary of 320 does not have")
      yield* writeText(dir, "generation_config.json", JSON.stringify({ eos_token_id: [999, 5] }))
      const opened = yield* Checkpoint.open(dir)
      expect([opened.eosTokenIds, opened.padTokenId]).toEqual([[5], undefined])
    })
  )

  it.effect("is not tied where the weights have an output projection that is not the embedding", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const json = yield* configJson
      expect(json.tie_word_embeddings).toBe(true)
      const tensors = yield* loadAll(yield* Checkpoint.open(tiny))
      const { data, shape } = tensors.find(({ name }) => name === "model.embed_tokens.weight")!
      const opened = Effect.fnUntraced(function* (head: Float32Array, rows = shape[0]!) {
        const lm = { name: "lm_head.weight", shape: [rows, shape[1]!], data: head }
        yield* Checkpoint.writeModel(dir, json, [...tensors, lm], "F32")
        return (yield* Checkpoint.open(dir)).config
      })
      expect((yield* opened(data)).tieEmbeddings).toBe(true)
      const other = yield* opened(data.with(data.length - 1, 0.5))
      expect(other.tieEmbeddings).toBe(false)
      expect(ModelConfig.parameters(other).get("lm_head.weight")).toEqual(shape)
      const { message } = yield* Effect.flip(opened(data.subarray(shape[1]), shape[0]! - 1))
      expect(message).toContain("holds lm_head.weight of shape [319, 64] where config.json asks for [320, 64]")
    })
  )

  it.effect("that classifies needs no output projection, which transformers saves none of", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const json = { ...(yield* configJson), tie_word_embeddings: false }
      const tensors = (yield* loadAll(yield* Checkpoint.open(tiny))).filter(({ name }) => name !== "lm_head.weight")
      const score = { name: "score.weight", shape: [1, json.hidden_size], data: new Float32Array(json.hidden_size) }
      yield* Checkpoint.writeModel(dir, json, [...tensors, score], "F32")
      expect((yield* Effect.flip(Checkpoint.open(dir))).message).toContain("has no tensor lm_head.weight")
      yield* writeText(
        dir,
        "config.json",
        JSON.stringify({ ...json, architectures: ["LlamaForSequenceClassification"] })
      )
      expect((yield* Checkpoint.open(dir)).config.tieEmbeddings).toBe(true)
      const { taskType, tensors: head } = yield* Lora.read(dir)
      expect([taskType, ...head.keys()]).toEqual(["SEQ_CLS", "score"])
    })
  )

  it.effect("that rewards with a head of another kind is told from a model that writes, and refused", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const json = { ...(yield* configJson), architectures: ["Qwen2ForRewardModel"] }
      const first = { name: "score.0.weight", shape: [1, json.hidden_size], data: new Float32Array(json.hidden_size) }
      yield* Checkpoint.writeModel(dir, json, [...(yield* loadAll(yield* Checkpoint.open(tiny))), first], "F32")
      expect((yield* Effect.flip(Lora.read(dir))).message).toContain(
        "has no score.weight; a reward model has one of shape [1, hidden]"
      )
    })
  )

  it.effect("refuses surplus layers and parameters of layers, and leaves other surplus tensors alone", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const json = yield* configJson
      const tensors = yield* loadAll(yield* Checkpoint.open(tiny))
      yield* Checkpoint.writeModel(dir, { ...json, num_hidden_layers: 1 }, tensors, "F32")
      const { message } = yield* Effect.flip(Checkpoint.open(dir))
      expect(message).toMatch(
        /model\.safetensors holds model\.layers\.1\.\S+, of layer 1 counted from 0, though config\.json has num_hidden_layers 1;/
      )

      const frequencies = {
        name: "model.layers.0.self_attn.rotary_emb.inv_freq",
        shape: [8],
        data: new Float32Array(8)
      }
      yield* Checkpoint.writeModel(dir, json, [...tensors, frequencies], "F32")
      expect((yield* Checkpoint.open(dir)).tensors.has(frequencies.name)).toBe(true)

      // A config.json that forgets attention_bias, and a network that norms more than its model_type does.
      for (const part of ["self_attn.q_proj.bias", "mlp.ffn_layernorm.weight"]) {
        const surplus = { name: `model.layers.1.${part}`, shape: [64], data: new Float32Array(64) }
        yield* Checkpoint.writeModel(dir, json, [...tensors, surplus], "F32")
        expect((yield* Effect.flip(Checkpoint.open(dir))).message).toContain(
          `holds ${surplus.name}, a parameter that the network of config.json does not have and that would be left out`
        )
      }
    })
  )

  it.effect("says of which type quantised weights are, and not that their packed shape is wrong", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const json = yield* configJson
      const [first, ...others] = yield* loadAll(yield* Checkpoint.open(tiny))
      yield* writeText(dir, "config.json", JSON.stringify(json))
      const { name } = first!
      const packed = { name, shape: [320, 8], data: new Uint8Array(320 * 8), dtype: "U8" as const }
      yield* Safetensors.write(path.join(dir, "model.safetensors"), [packed, ...others])
      expect((yield* Effect.flip(Checkpoint.open(dir))).message).toContain(
        `holds ${name} as U8; save the model as F32, F16 or BF16`
      )
    })
  )

  it.effect("says in one sentence why a folder is no model", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const message = Effect.map(Effect.flip(Checkpoint.open(dir)), (error) => error.message)
      expect((yield* Effect.flip(Checkpoint.open(path.join(dir, "none")))).message).toContain("none does not exist")
      expect(yield* message).toContain("is not a model because it has no config.json")
      const file = path.join(tiny, "config.json")
      expect((yield* Effect.flip(Checkpoint.open(file))).message).toBe(
        `${file} is a file; give the folder of a Hugging Face model, in which its config.json and weights are.`
      )
      yield* writeText(dir, "config.json", "{")
      expect(yield* message).toContain("config.json is not valid JSON")
      const json = yield* configJson
      yield* writeText(dir, "config.json", JSON.stringify(json))
      expect(yield* message).toContain("neither model.safetensors nor model.safetensors.index.json")
      const tensors = yield* loadAll(yield* Checkpoint.open(tiny))
      yield* Checkpoint.writeModel(dir, json, tensors.slice(1), "F32")
      expect(yield* message).toContain(`has no tensor ${tensors[0]!.name}`)
      yield* Checkpoint.writeModel(dir, { ...json, vocab_size: 321 }, tensors, "F32")
      expect(yield* message).toContain(
        "holds model.embed_tokens.weight of shape [320, 64] where config.json asks for [321, 64]"
      )
      yield* Effect.promise(() => fs.truncate(path.join(dir, "model.safetensors"), 3000))
      expect(yield* message).toContain("model.safetensors places its tensor")
    })
  )
})

describe.skipIf(!RealModel.exists)("Checkpoint of a real model", () => {
  it.effect("opens SmolLM2-135M-Instruct", () =>
    Effect.gen(function* () {
      const { config, eosTokenIds, padTokenId, tensors } = yield* Checkpoint.open(RealModel.dir)
      expect(config).toMatchObject({ layers: 30, heads: 9, kvHeads: 3, headDim: 64, normEps: 1e-5 })
      expect(config.attention[29]!.rope).toEqual({ kind: "default", theta: 100000, dims: 64 })
      expect([eosTokenIds, padTokenId]).toEqual([[2], 2])
      const norm = yield* Safetensors.load(tensors.get("model.norm.weight")!)
      expect(norm.length).toBe(576)
      expect(norm.every(Number.isFinite)).toBe(true)
    })
  )
})
