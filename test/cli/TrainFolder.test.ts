import { assert, describe, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { contents, jsonl, lines, main, tiny, tokenRows, train, workplace } from "./TrainFixture.ts"

/** A training of two steps. */
const short = () => {
  const dir = workplace()
  const data = jsonl(join(dir, "rows.jsonl"), tokenRows(4))
  const out = join(dir, "out")
  const args = ["sft", "--model", tiny, "--data", data, "--batch-size", "2", "--lora-rank", "2", "--out"]
  return { dir, out, args, run: (folder = out, ...more: ReadonlyArray<string>) => train(...args, folder, ...more) }
}

/** The same, as a process leaves it that was killed when all but the summary was written. */
const unfinished = async () => {
  const training = short()
  assert.strictEqual((await training.run()).status, 0)
  rmSync(join(training.out, "summary.json"))
  return training
}

describe("a folder of a training that cannot be used is refused in a sentence, with exit code 2", () => {
  it("a file, and what is below one", async () => {
    const { dir, run } = short()
    const file = join(dir, "notes.txt")
    writeFileSync(file, "mine")
    for (const out of [file, join(file, "out"), join(file, "deeply", "out")]) {
      const { status, stderr } = await run(out)
      assert.strictEqual(status, 2)
      assert.strictEqual(stderr, `${file} is a file; --out has to be a folder, or a place for one.`)
    }
    assert.strictEqual(readFileSync(file, "utf8"), "mine")
  })

  it("one with a rejected.jsonl that no training has written, which may be the data", async () => {
    const { dir, run } = short()
    const out = join(dir, "answers")
    mkdirSync(out)
    const data = jsonl(join(out, "rejected.jsonl"), tokenRows(4))
    const before = readFileSync(data, "utf8")
    const { status, stderr } = await train("sft", "--model", tiny, "--data", data, "--steps", "1", "--out", out)
    assert.strictEqual(stderr, `${out} holds rejected.jsonl and is no training; use another --out.`)
    assert.strictEqual(status, 2)
    assert.strictEqual(readFileSync(data, "utf8"), before)

    // That of a training which was killed before it began is written anew.
    jsonl(data, [{ file: "rows.jsonl", line: 5, reason: "it has no tokens" }])
    assert.strictEqual((await run(out)).status, 0)
  })

  it("one without a name, as of a variable that is not set", async () => {
    const { status, stderr } = await short().run("")
    assert.strictEqual(status, 2)
    assert.strictEqual(stderr, "--out is an empty name; give a folder.")
  })

  it.each(["{", "null", '{"format":1}'])("a train.json of %s", async (text) => {
    const { out, run } = await unfinished()
    writeFileSync(join(out, "train.json"), text)
    const { status, stderr } = await run()
    assert.strictEqual(status, 2)
    assert.include(stderr, join(out, "train.json"))
    assert.include(stderr, "cannot be gone on with; use another --out.")
  })

  it("a state that was cut off: it can be started over", async () => {
    const { out, run } = await unfinished()
    truncateSync(join(out, "state", "state.safetensors"), 500)
    const { status, stderr } = await run()
    assert.strictEqual(status, 2)
    assert.include(stderr, `; delete ${join(out, "state")} to start over.`)
    rmSync(join(out, "state"), { recursive: true })
    assert.strictEqual((await run()).status, 0)
    assert.deepStrictEqual(
      lines(join(out, "metrics.jsonl")).map((line) => line["step"]),
      [1, 2]
    )
  })

  it.each(["progress", "numbers"])("a state with a bit that flipped in its %s", async (where) => {
    const { out, run } = await unfinished()
    const file = join(out, "state", "state.safetensors")
    const bytes = readFileSync(file)
    const at = where === "progress" ? bytes.indexOf('"progress":"') + '"progress":"'.length : bytes.length / 2
    bytes[Math.floor(at)]! ^= 1
    writeFileSync(file, bytes)
    const { status, stderr } = await run()
    assert.strictEqual(status, 2)
    assert.strictEqual(stderr, `${file} has other numbers than were saved; delete ${join(out, "state")} to start over.`)
  })

  it.each(["not JSON", "[]", '{"loss":1}', ""])("metrics with a line of `%s`, which is named", async (line) => {
    const { out, run } = await unfinished()
    const file = join(out, "metrics.jsonl")
    const [first, second] = readFileSync(file, "utf8").trimEnd().split("\n")
    writeFileSync(file, `${first}\n${line}\n${second}\n`)
    const { status, stderr } = await run()
    assert.strictEqual(status, 2)
    assert.strictEqual(stderr, `Line 2 of ${file} is damaged; delete that line to go on without it.`)
    writeFileSync(file, `${first}\n${second}\n`)
    assert.strictEqual((await run()).status, 0)
  })
})

it.each(["adapter_config.json", "adapter_model.safetensors"])(
  "a finished training whose %s was deleted has it again, and nothing else changes",
  async (name) => {
    const { out, run } = short()
    assert.strictEqual((await run()).status, 0)
    const before = contents(out)
    rmSync(join(out, name))
    const { status, stdout } = await run()
    assert.strictEqual(status, 0)
    assert.notInclude(stdout, "nothing was changed")
    assert.deepStrictEqual(contents(out), before)
    assert.include((await run()).stdout, "nothing was changed")
  }
)

it("a training whose rejected rows were deleted writes them again where it goes on, as it says that they are there", async () => {
  const { dir, out, run } = short()
  jsonl(join(dir, "rows.jsonl"), [...tokenRows(4), { input_ids: [] }])
  assert.strictEqual((await run()).status, 0)
  const before = contents(out)
  for (const name of ["rejected.jsonl", "summary.json"]) rmSync(join(out, name))
  const { status, stderr } = await run()
  assert.strictEqual(status, 0)
  assert.include(stderr, `${out}/rejected.jsonl has them all.`)
  assert.deepStrictEqual(contents(out), before)
})

it("a training that has lost lines of its metrics says so, and how to have them again", async () => {
  const { out, run } = await unfinished()
  const [metrics, state] = [join(out, "metrics.jsonl"), join(out, "state")]
  const whole = lines(metrics).map((line) => line["loss"])
  rmSync(metrics)
  const { status, stderr, stdout } = await run()
  assert.strictEqual(status, 0)
  assert.include(stdout, "Trained sft for 2 steps on 4 rows; the lines of its steps are gone.")
  assert.strictEqual(
    stderr,
    `${metrics} has no line of 2 of the 2 finished steps and is gone on with; to have them again, stop and delete ${state}.\n`
  )
  for (const gone of [state, join(out, "summary.json")]) rmSync(gone, { recursive: true })
  assert.strictEqual((await run()).stderr, "")
  assert.deepStrictEqual(
    lines(metrics).map((line) => line["loss"]),
    whole
  )
})

describe("what the operating system refuses ends a training with one sentence that names the file", () => {
  it("metrics that cannot be read", async () => {
    const { out, run } = await unfinished()
    const file = join(out, "metrics.jsonl")
    rmSync(file)
    mkdirSync(file)
    const { status, stderr } = await run()
    assert.strictEqual(status, 1)
    assert.match(stderr, /^\S+metrics\.jsonl cannot be read: EISDIR/)
  })

  it("a place for checkpoints that is a file", async () => {
    const { out, run } = short()
    const more = ["--save-every", "1", "--steps", "1"]
    assert.strictEqual((await run(out, ...more)).status, 0)
    for (const name of ["summary.json", "state", "checkpoints"]) rmSync(join(out, name), { recursive: true })
    writeFileSync(join(out, "checkpoints"), "mine")
    const { status, stderr } = await run(out, ...more)
    assert.strictEqual(status, 1)
    assert.match(stderr, /^\S+checkpoints\S+ cannot be written: ENOTDIR/)
  })

  it("metrics that grow beyond what a file may have", () => {
    const { args, out } = short()
    const more = [...args.with(8, "1"), out, "--steps", "60", "--lora-targets", "q_proj"]
    const command = [process.execPath, main, "train", ...more].map((word) => `'${word}'`).join(" ")
    const { status, stderr } = spawnSync("bash", ["-c", `ulimit -f 8; ${command}`], { encoding: "utf8" })
    assert.strictEqual(status, 1)
    assert.match(stderr, /^\S+metrics\.jsonl cannot be written: EFBIG/m)
    assert.notInclude(stderr, "bug")
  })
})

/** Changes a file of JSON. */
const edit = (file: string, change: (json: any) => object) =>
  writeFileSync(file, JSON.stringify(change(JSON.parse(readFileSync(file, "utf8")))))

describe("a training is known by what its rows come to, whatever their bytes are", () => {
  /** A finished training of a conversation, from an adapter, over a model with a tokenizer and a chat template. */
  const chat = async () => {
    const dir = workplace()
    const [model, adapter, out] = ["model", "adapter", "out"].map((name) => join(dir, name)) as [string, string, string]
    mkdirSync(model)
    for (const name of ["config.json", "model.safetensors"]) copyFileSync(join(tiny, name), join(model, name))
    copyFileSync(join(dirname(tiny), "tokenizers/unigram/tokenizer.json"), join(model, "tokenizer.json"))
    cpSync(join(tiny, "adapter"), adapter, { recursive: true })
    const template = (text: string) => writeFileSync(join(model, "chat_template.jinja"), text)
    template("{% for m in messages %}{{ m.content }}{% endfor %}")
    const messages = ["Why?", "So."].map((content, i) => ({ role: i === 0 ? "user" : "assistant", content }))
    const data = jsonl(join(dir, "rows.jsonl"), [{ messages }])
    const run = () => train("sft", "--model", model, "--adapter", adapter, "--data", data, "--out", out)
    const { status, stderr } = await run()
    assert.strictEqual(status, 0, stderr)
    return { adapter, out, run, template }
  }

  it("another chat template makes it another training", async () => {
    const { run, template } = await chat()
    template("{% for m in messages %}{{ m.content }}!{% endfor %}")
    const { status, stderr } = await run()
    assert.strictEqual(status, 2)
    assert.match(stderr, /is another training: encoded\.data is \w+ there and \w+ now\. Use/)
  })

  it("a template that writes the date does not: tomorrow it can be gone on with", async () => {
    const { out, run, template } = await chat()
    rmSync(out, { recursive: true })
    template("{{ strftime_now('%s') }}{% for m in messages %}{{ m.content }}{% endfor %}")
    assert.strictEqual((await run()).status, 0)
    assert.strictEqual(JSON.parse(readFileSync(join(out, "train.json"), "utf8")).training.encoded, null)
  })

  it("the same numbers of an adapter with other factors make it another training", async () => {
    const { adapter, run } = await chat()
    edit(join(adapter, "adapter_config.json"), (config) => ({ ...config, use_rslora: true }))
    const { status, stderr } = await run()
    assert.strictEqual(status, 2)
    assert.match(stderr, /is another training: scales is \w+ there and \w+ now\. Use/)
  })

  it("a folder that was begun before this was recorded can be gone on with", async () => {
    const { out, run } = await chat()
    edit(join(out, "train.json"), ({ training, ...rest }) => {
      const { encoded: _, scales: __, ...first } = training
      return { ...rest, training: first }
    })
    rmSync(join(out, "summary.json"))
    assert.strictEqual((await run()).status, 0)
  })
})
