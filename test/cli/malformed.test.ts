/** Files that are not what they say, through the program: exit code 2, one sentence, no stack, and no crash. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as FakeHub from "../hub/FakeHub.ts"
import * as Workplace from "../workplace.ts"

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))
const fixtures = fileURLToPath(new URL("../fixtures", import.meta.url))
const tiny = join(fixtures, "tiny-llama")

/** A copy of the tiny model, with a tokenizer that fits it, its adapter, and rows to score. */
const workplace = () => {
  const dir = Workplace.workplace()
  fs.mkdirSync(join(dir, "model"))
  for (const name of ["config.json", "model.safetensors"]) fs.copyFileSync(join(tiny, name), join(dir, "model", name))
  fs.copyFileSync(join(fixtures, "tokenizers/unigram/tokenizer.json"), join(dir, "model/tokenizer.json"))
  fs.cpSync(join(tiny, "adapter"), join(dir, "adapter"), { recursive: true })
  fs.writeFileSync(join(dir, "rows.jsonl"), '{"input_ids": [1, 5, 9]}\n')
  fs.writeFileSync(join(dir, "prompts.txt"), "How do I pick a lock?\n")
  return dir
}

const charter = (cwd: string, args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) =>
  new Promise<{ status: number | null; signal: string | null; stdout: string; stderr: string }>((done) => {
    const child = spawn(process.execPath, [main, ...args], { cwd, env: { ...process.env, ...env } })
    let [stdout, stderr] = ["", ""]
    child.stdout.on("data", (chunk) => (stdout += chunk))
    child.stderr.on("data", (chunk) => (stderr += chunk))
    child.on("close", (status, signal) => done({ status, signal, stdout, stderr }))
  })

const score = ["score", "--model", "model", "--in", "rows.jsonl"]
const adapted = [...score, "--adapter", "adapter"]
const run = ["run", "--model", "model", "--prompts", "prompts.txt"]

type Break = (dir: string) => void

const edit =
  (file: string, change: (json: Record<string, unknown>) => object): Break =>
  (dir) => {
    const path = join(dir, file)
    fs.writeFileSync(path, JSON.stringify(change(JSON.parse(fs.readFileSync(path, "utf8")))))
  }
const bytes =
  (file: string, change: (bytes: Buffer) => Buffer): Break =>
  (dir) => {
    const path = join(dir, file)
    fs.writeFileSync(path, change(fs.readFileSync(path)))
  }
const weights = "model/model.safetensors"
/** The same length, so that nothing but what is said changes. */
const header = (from: string, to: string) =>
  bytes(weights, (file) => Buffer.from(file.toString("latin1").replace(from, to), "latin1"))
const lastFloat = (value: number) => (file: Buffer) => {
  file.writeFloatLE(value, file.length - 4)
  return file
}
const sharded: Break = (dir) => {
  fs.renameSync(join(dir, weights), join(dir, "model/one.safetensors"))
  const weight_map = { "model.norm.weight": "one.safetensors", "lm_head.weight": "two.safetensors" }
  fs.writeFileSync(join(dir, "model/model.safetensors.index.json"), JSON.stringify({ weight_map }))
}

const cases: ReadonlyArray<readonly [what: string, args: ReadonlyArray<string>, broken: Break, said: string]> = [
  ["truncated weights", score, bytes(weights, (b) => b.subarray(0, -5000)), "model.safetensors places its tensor"],
  ["a truncated header", score, bytes(weights, (b) => b.subarray(0, 100)), "but has only 100 bytes in all"],
  ["oversized weights", score, bytes(weights, (b) => Buffer.concat([b, b])), "bytes after its last tensor"],
  ["a lying shape", score, header('"shape":[320,64]', '"shape":[960,64]'), "bytes for its tensor"],
  ["a lying offset", score, header('"data_offsets":[0,', '"data_offsets":[9,'), "model.safetensors has"],
  ["a lying length", score, bytes(weights, (b) => (b.writeBigUInt64LE(2n ** 63n), b)), "announces a header of"],
  ["no weights", score, bytes(weights, () => Buffer.alloc(0)), "has 0 bytes, too few for a safetensors file"],
  ["another config", score, edit("model/config.json", (c) => ({ ...c, hidden_size: 128, head_dim: 16 })), "of shape"],
  [
    "a deeper config",
    score,
    edit("model/config.json", (c) => ({ ...c, num_hidden_layers: 3 })),
    "has no tensor model.layers.2."
  ],
  ["a missing shard", score, sharded, "index.json names the weight file two.safetensors, which is missing"],
  [
    "weights that are no numbers",
    score,
    bytes(weights, lastFloat(NaN)),
    "model.safetensors holds a NaN or an infinity in"
  ],
  ["the same in a run", run, bytes(weights, lastFloat(-Infinity)), "model.safetensors holds a NaN or an infinity in"],
  [
    "an end token beyond the vocabulary",
    score,
    edit("model/config.json", (c) => ({ ...c, eos_token_id: 320 })),
    "eos_token_id 320"
  ],
  [
    "a tokenizer of another model",
    run,
    (dir) => fs.copyFileSync(join(fixtures, "tokenizers/llama3/tokenizer.json"), join(dir, "model/tokenizer.json")),
    "tokenizer.json has the token 419 where the model's vocabulary has 320"
  ],
  [
    "an adapter of another model",
    adapted,
    (dir) => fs.cpSync(join(fixtures, "tiny-gemma3/adapter"), join(dir, "adapter"), { recursive: true }),
    "it was made for another model, so give it the base it was trained on"
  ],
  [
    "an adapter of no number",
    adapted,
    bytes("adapter/adapter_model.safetensors", lastFloat(NaN)),
    "holds NaN in base_model."
  ]
]

describe("charter refuses what is not what it says", () => {
  for (const [what, args, broken, said] of cases) {
    it(what, async () => {
      const dir = workplace()
      broken(dir)
      const before = fs.readdirSync(dir, { recursive: true }).toSorted()
      const { signal, status, stderr, stdout } = await charter(dir, args)
      assert.strictEqual(signal, null, stderr)
      assert.strictEqual(status, 2, stderr)
      assert.strictEqual(stdout, "")
      assert.include(stderr, said)
      assert.strictEqual(stderr.trim().split("\n").length, 1, stderr)
      assert.match(stderr.trim(), /\.$/)
      assert.notInclude(stderr, "    at ")
      assert.deepStrictEqual(fs.readdirSync(dir, { recursive: true }).toSorted(), before)
      fs.rmSync(dir, { recursive: true })
    })
  }
})

describe("charter with a name of the hub", () => {
  it.effect("fetches the model, and works from the links in the cache", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const model = { bytes: fs.readFileSync(join(tiny, "model.safetensors")), large: true }
      const { answer, asked, endpoint } = yield* FakeHub.make({
        "config.json": { bytes: fs.readFileSync(join(tiny, "config.json")) },
        "model.safetensors": model
      })
      const env = { HF_HUB_CACHE: join(dir, "cache"), HF_ENDPOINT: endpoint, HF_TOKEN: "", HF_HUB_OFFLINE: "" }
      const named = ["score", "--model", "o/n", "--in", "rows.jsonl"]
      const first = yield* Effect.promise(() => charter(dir, named, env))
      assert.strictEqual(first.status, 0, first.stderr)
      const folder = yield* Effect.promise(() => charter(dir, score))
      assert.strictEqual(first.stdout, folder.stdout)
      const count = asked.length
      const offline = yield* Effect.promise(() => charter(dir, named, { ...env, HF_HUB_OFFLINE: "1" }))
      assert.strictEqual(offline.stdout, folder.stdout)
      assert.strictEqual(asked.length, count)

      answer(404)
      const gone = yield* Effect.promise(() => charter(dir, named, { ...env, HF_HUB_CACHE: join(dir, "other") }))
      assert.strictEqual(gone.status, 2)
      assert.strictEqual(gone.stderr, "o/n is not on the hub; check its name and revision.\n")
      fs.rmSync(dir, { recursive: true })
    })
  )
})
