import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { cpSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as TrainModel from "../../src/cli/TrainModel.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Golden from "../engine/golden.ts"
import { workplace } from "../workplace.ts"

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))
const adapter = join(Golden.folder, "adapter")

const inspect = (...args: ReadonlyArray<string>) =>
  spawnSync(process.execPath, [main, "inspect", ...args], { encoding: "utf8" })

describe("charter inspect", () => {
  it("tells a model's sizes, what it needs and its adapter, as JSON", () => {
    const { status, stdout } = inspect(Golden.folder, "--adapter", adapter, "--json")
    assert.strictEqual(status, 0)
    const found = JSON.parse(stdout)
    const shape = { layers: 2, hidden_size: 64, heads: 4, kv_heads: 2, vocab_size: 320, context: 256 }
    for (const [key, value] of Object.entries(shape)) assert.strictEqual(found[key], value, key)
    assert.strictEqual(found.family, "llama")
    assert.strictEqual(found.parameters, 106_816)
    assert.deepStrictEqual(found.dtypes, { F32: 4 * 106_816 })
    assert.isFalse(found.tokenizer)
    assert.strictEqual(found.memory.fp32_weights, 4 * 106_816)
    assert.isBelow(found.memory.int8_weights, found.memory.fp32_weights)
    assert.isAbove(found.memory.score_fp32, found.memory.score_int8)
    // Keys and values of two layers with two heads of 16 floats.
    assert.strictEqual(found.memory.cache_per_token, 2 * 2 * 2 * 16 * 4)
    assert.strictEqual(found.adapter.rank, 4)
    assert.include(found.adapter.adapted, "down_proj")
  })

  it("tells the same in words, and of an adapter alone", () => {
    const model = inspect(Golden.folder)
    assert.strictEqual(model.status, 0)
    assert.match(model.stdout, /^parameters +106,816$/m)
    assert.match(model.stdout, /^vocabulary +320, head tied to the embedding$/m)
    const alone = inspect(adapter)
    assert.strictEqual(alone.status, 0)
    assert.match(alone.stdout, /^rank +4, alpha 8/m)
  })

  it("knows an adapter that has its model's config.json beside it", () => {
    const dir = workplace()
    cpSync(adapter, dir, { recursive: true })
    cpSync(join(Golden.folder, "config.json"), join(dir, "config.json"))
    assert.match(inspect(dir).stdout, /^rank +4, alpha 8/m)
  })

  it.effect("calls a whole reward model no adapter", () =>
    Effect.gen(function* () {
      const whole = workplace()
      const checkpoint = yield* Checkpoint.open(Golden.folder)
      const start = { checkpoint, adapter: undefined, asked: {}, lora: null, seed: 1, head: "score" } as const
      yield* TrainModel.save(whole, checkpoint, yield* TrainModel.begin(start))
      const { status, stderr } = inspect(Golden.folder, "--adapter", whole)
      assert.strictEqual(status, 2)
      assert.include(stderr, "is a whole reward model and no adapter")
    })
  )

  it("calls a model of the hub by its name there", () => {
    const cache = workplace()
    const folder = join(cache, "models--owner--name")
    cpSync(Golden.folder, join(folder, "snapshots", "c".repeat(40)), { recursive: true })
    mkdirSync(join(folder, "refs"))
    writeFileSync(join(folder, "refs", "main"), "c".repeat(40))
    const env = { ...process.env, HF_HUB_CACHE: cache, HF_HUB_OFFLINE: "1" }
    const { stdout } = spawnSync(process.execPath, [main, "inspect", "owner/name"], { encoding: "utf8", env })
    assert.match(stdout, /^model +owner\/name \(.+\/snapshots\/c{40}\)$/m)
  })

  it("refuses a folder that is no model, in a sentence", () => {
    const dir = workplace()
    mkdirSync(join(dir, "empty"))
    for (const args of [
      [join(dir, "empty")],
      [join(dir, "nowhere")],
      [Golden.folder, "--adapter", join(dir, "empty")]
    ]) {
      const { status, stderr, stdout } = inspect(...args)
      assert.strictEqual(status, 2)
      assert.strictEqual(stdout, "")
      assert.include(stderr, dir)
      assert.strictEqual(stderr.trim().split("\n").length, 1)
    }
  })

  it("helps with an example", () => {
    assert.include(inspect("--help").stdout, "charter inspect ./SmolLM2-135M-Instruct")
  })
})
