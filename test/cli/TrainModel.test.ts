import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as TrainModel from "../../src/cli/TrainModel.ts"
import * as ChatTemplate from "../../src/model/ChatTemplate.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"
import { temporaryFolder } from "../model/temporaryFolder.ts"

const tiny = path.join(import.meta.dirname, "../fixtures/tiny-llama")
const text = (...parts: [string, ...Array<string>]) => Effect.promise(() => fs.readFile(path.join(...parts), "utf8"))

/** Writes a model whose parameters were all trained, for no step; gives its config.json. */
const saved = Effect.fnUntraced(function* (model: string, head: "none" | "score" = "none") {
  const dir = yield* temporaryFolder
  const checkpoint = yield* Checkpoint.open(model)
  const start = { checkpoint, adapter: undefined, asked: {}, lora: null, seed: 1, head }
  yield* TrainModel.save(dir, checkpoint, yield* TrainModel.begin(start))
  return { dir, config: yield* text(dir, "config.json") }
})

describe("A model trained as a whole", () => {
  it.effect("is tied as its base is", () =>
    Effect.gen(function* () {
      const { config, dir } = yield* saved(tiny)
      expect(JSON.parse(config)).toEqual(JSON.parse(yield* text(tiny, "config.json")))
      expect((yield* Checkpoint.open(dir)).tensors.has("lm_head.weight")).toBe(false)
    })
  )

  it.effect("spells numbers as its base does, because 20.0 is no integer to Python", () =>
    Effect.gen(function* () {
      const base = yield* temporaryFolder
      const weights = "model.safetensors"
      yield* Effect.promise(() => fs.copyFile(path.join(tiny, weights), path.join(base, weights)))
      const numbers = [
        `"final_logit_softcapping": 20.0,`,
        `"big": 1000000000000000019884624838656,`,
        `"nested": {"list": [1.50, -0.0, 1E+2, 7, {"initializer_range": 2e-02}]},`
      ]
      const given = (yield* text(tiny, "config.json")).replace("{", `{${numbers.join("")}`)
      yield* Effect.promise(() => fs.writeFile(path.join(base, "config.json"), given))
      const spelt = (json: string) => json.match(/(?<=[:[,]\s*)-?\d[\d.eE+-]*/g)
      expect(spelt((yield* saved(base)).config)).toEqual(spelt(given))
    })
  )

  it.effect("is not tied where its base only says so", () =>
    Effect.gen(function* () {
      const base = yield* temporaryFolder
      const { tensors } = yield* Checkpoint.open(tiny)
      const loaded = yield* Effect.forEach([...tensors.values()], (info) =>
        Effect.map(Safetensors.load(info), (data) => ({ name: info.name, shape: info.shape, data }))
      )
      const head = { name: "lm_head.weight", shape: [320, 64], data: new Float32Array(320 * 64).fill(0.5) }
      yield* Checkpoint.writeModel(base, JSON.parse(yield* text(tiny, "config.json")), [...loaded, head], "F32")

      const { config, dir } = yield* saved(base)
      expect(JSON.parse(config).tie_word_embeddings).toBe(false)
      const written = yield* Checkpoint.open(dir)
      expect(yield* Safetensors.load(written.tensors.get("lm_head.weight")!)).toEqual(head.data)
      // One with a score has no output projection, as transformers knows it; without one it opens as a tied model.
      const reward = yield* saved(base, "score")
      const file = yield* Safetensors.read(path.join(reward.dir, "model.safetensors"))
      expect(["score.weight", "lm_head.weight"].map((name) => file.tensors.has(name))).toEqual([true, false])
      expect((yield* Checkpoint.open(reward.dir)).config.tieEmbeddings).toBe(true)
    })
  )

  it.effect("names no code that its folder does not have", () =>
    Effect.gen(function* () {
      const base = yield* temporaryFolder
      const weights = "model.safetensors"
      yield* Effect.promise(() => fs.copyFile(path.join(tiny, weights), path.join(base, weights)))
      const given = JSON.parse(yield* text(tiny, "config.json"))
      const coded = { ...given, auto_map: { AutoConfig: "configuration_llama.LlamaConfig" } }
      yield* Effect.promise(() => fs.writeFile(path.join(base, "config.json"), JSON.stringify(coded)))
      expect(JSON.parse((yield* saved(base)).config)).toEqual(given)
    })
  )

  it.effect("takes along the chat template of its base, and the one for tools", () =>
    Effect.gen(function* () {
      const [base, dir] = [yield* temporaryFolder, yield* temporaryFolder]
      for (const name of ["config.json", "model.safetensors"]) {
        yield* Effect.promise(() => fs.copyFile(path.join(tiny, name), path.join(base, name)))
      }
      for (const name of Object.values(ChatTemplate.files)) {
        yield* Effect.promise(() => fs.mkdir(path.dirname(path.join(base, name)), { recursive: true }))
        yield* Effect.promise(() => fs.writeFile(path.join(base, name), `{{ "${name}" }}`))
      }
      const checkpoint = yield* Checkpoint.open(base)
      const start = { checkpoint, adapter: undefined, asked: {}, lora: null, seed: 1, head: "none" } as const
      yield* TrainModel.save(dir, checkpoint, yield* TrainModel.begin(start))
      for (const name of Object.values(ChatTemplate.files)) {
        expect(yield* text(path.join(dir, name))).toBe(`{{ "${name}" }}`)
      }
    })
  )

  it.effect("can be written again by a training that was stopped while it saved, though its base is read-only", () =>
    Effect.gen(function* () {
      const [base, dir] = [yield* temporaryFolder, yield* temporaryFolder]
      const template = path.join(base, "chat_template.jinja")
      const copy = path.join(dir, "chat_template.jinja")
      for (const name of ["config.json", "model.safetensors"]) {
        yield* Effect.promise(() => fs.copyFile(path.join(tiny, name), path.join(base, name)))
      }
      yield* Effect.promise(() => fs.writeFile(template, "{{ messages }}", { mode: 0o444 }))
      // Half of a copy with the mode of its original, as an earlier version left it.
      yield* Effect.promise(() => fs.writeFile(copy, "{{ mess", { mode: 0o444 }))
      const checkpoint = yield* Checkpoint.open(base)
      const start = { checkpoint, adapter: undefined, asked: {}, lora: null, seed: 1, head: "none" } as const
      const trained = yield* TrainModel.begin(start)
      for (let saves = 0; saves < 2; saves++) {
        yield* TrainModel.save(dir, checkpoint, trained)
        expect(yield* text(copy)).toBe("{{ messages }}")
        // The test may be run by root, who could write to it in any case.
        expect((yield* Effect.promise(() => fs.stat(copy))).mode & 0o200).toBe(0o200)
      }
      expect((yield* Effect.promise(() => fs.readdir(dir))).toSorted()).toEqual([
        "chat_template.jinja",
        "config.json",
        "model.safetensors"
      ])
    })
  )

  it.effect("has the class of its family where it classifies, also when its base names none", () =>
    Effect.gen(function* () {
      const architecturesOf = Effect.fnUntraced(function* (model: string) {
        return JSON.parse((yield* saved(model, "score")).config).architectures
      })
      expect(yield* architecturesOf(path.join(tiny, "../tiny-gemma3"))).toEqual(["Gemma3TextForSequenceClassification"])
      const base = yield* temporaryFolder
      const weights = "model.safetensors"
      yield* Effect.promise(() => fs.copyFile(path.join(tiny, weights), path.join(base, weights)))
      const { architectures: _, ...given } = JSON.parse(yield* text(tiny, "config.json"))
      yield* Effect.promise(() => fs.writeFile(path.join(base, "config.json"), JSON.stringify(given)))
      expect(yield* architecturesOf(base)).toEqual(["LlamaForSequenceClassification"])
    })
  )

  it.effect("calls no end token its padding, on which transformers would read no score", () =>
    Effect.gen(function* () {
      const given = JSON.parse(yield* text(tiny, "config.json"))
      const padOf = Effect.fnUntraced(function* (config: object, generation: object, head: "none" | "score") {
        const base = yield* temporaryFolder
        const weights = "model.safetensors"
        yield* Effect.promise(() => fs.copyFile(path.join(tiny, weights), path.join(base, weights)))
        for (const [name, json] of [
          ["config.json", { ...given, ...config }],
          ["generation_config.json", generation]
        ] as const) {
          yield* Effect.promise(() => fs.writeFile(path.join(base, name), JSON.stringify(json)))
        }
        return JSON.parse((yield* saved(base, head)).config).pad_token_id
      })
      expect(yield* padOf({ pad_token_id: 2 }, {}, "score")).toBe(null)
      expect(yield* padOf({ pad_token_id: 7 }, { eos_token_id: [2, 7] }, "score")).toBe(null)
      expect(yield* padOf({ pad_token_id: 0 }, {}, "score")).toBe(0)
      expect(yield* padOf({ pad_token_id: 2 }, {}, "none")).toBe(2)
    })
  )
})
