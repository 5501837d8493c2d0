import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { cpSync, readFileSync, readdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Tokenizer from "../../src/model/Tokenizer.ts"
import * as Golden from "../engine/golden.ts"
import * as RealModel from "../model/realModel.ts"
import { workplace } from "../workplace.ts"

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))
const sandbox = fileURLToPath(new URL("../../assets/sandbox", import.meta.url))

const charter = (cwd: string, ...args: ReadonlyArray<string>) =>
  spawnSync(process.execPath, [main, ...args], { cwd, encoding: "utf8" })

const jsonl = (rows: ReadonlyArray<unknown>) => rows.map((row) => JSON.stringify(row)).join("\n")

const parse = (text: string): ReadonlyArray<Record<string, any>> =>
  text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))

const read = (file: string) => parse(readFileSync(file, "utf8"))

/** A `tokenizer.json` of Llama 2's kind for 320 tokens: bytes, letters, and letters with a space before them. */
const llama2 = () => {
  const letters = [..."abcdefghijklmnopqrstuvwxyz"]
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`)
  const special = ["<unk>", "<s>", "</s>"]
  const pieces = [...special, ...bytes, "▁", ...letters, ...letters.map((letter) => `▁${letter}`)]
  const replaced = (from: string, content: string) => ({ type: "Replace", pattern: { String: from }, content })
  const decoders = [replaced("▁", " "), { type: "ByteFallback" }, { type: "Fuse" }]
  return {
    added_tokens: special.map((content, id) => ({ id, content, special: true })),
    normalizer: { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, replaced(" ", "▁")] },
    pre_tokenizer: null,
    post_processor: null,
    decoder: { type: "Sequence", decoders: [...decoders, { type: "Strip", content: " ", start: 1, stop: 0 }] },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      byte_fallback: true,
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
      merges: letters.map((letter) => ["▁", letter])
    }
  }
}

const asked = (question: string) => `\n\nHuman: ${question}\n\nAssistant:`

describe("charter generate", () => {
  it.live("continues token ids greedily as transformers does, without a tokenizer", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const expected = yield* golden.integers("greedy")
      const dir = workplace()
      const length = golden.rows[0]!.length
      writeFileSync(join(dir, "rows.jsonl"), jsonl([{ id: "golden", input_ids: expected.slice(0, length) }]))
      const most = String(expected.length - length)
      const args = ["--model", Golden.folder, "--in", "rows.jsonl", "--temperature", "0", "--max-tokens", most]
      const { status, stderr, stdout } = charter(dir, "generate", ...args)
      assert.strictEqual(status, 0, stderr)
      const [row] = parse(stdout)
      assert.deepStrictEqual(row!["token_ids"], expected.slice(length))
      assert.strictEqual(row!["id"], "golden")
      assert.strictEqual(row!["completion"], null)
    })
  )

  it("gives the log-probabilities that charter score gives to the same tokens", () => {
    const dir = workplace()
    const prompts = Array.from({ length: 6 }, (_, i) => ({
      input_ids: Array.from({ length: 2 + 9 * i }, (_, t) => 3 + ((i * 31 + t * 17) % 300))
    }))
    writeFileSync(join(dir, "rows.jsonl"), jsonl(prompts))
    const common = ["--model", Golden.folder]
    const sampled = charter(
      dir,
      "generate",
      ...common,
      "--in",
      "rows.jsonl",
      "--out",
      "out.jsonl",
      "--temperature",
      "1.5"
    )
    assert.strictEqual(sampled.status, 0, sampled.stderr)
    const completions = read(join(dir, "out.jsonl"))
    writeFileSync(
      join(dir, "whole.jsonl"),
      jsonl(completions.map(({ prompt, token_ids }) => ({ input_ids: [...prompt, ...token_ids] })))
    )
    const scored = charter(dir, "score", ...common, "--in", "whole.jsonl", "--out", "scores.jsonl")
    assert.strictEqual(scored.status, 0, scored.stderr)
    for (const [i, { token_logprobs }] of read(join(dir, "scores.jsonl")).entries()) {
      const { logprobs } = completions[i]!
      assert.isBelow(Golden.distance(logprobs, token_logprobs.slice(-logprobs.length)), 1e-3)
    }
  })

  it("gives a row the same bytes in other company, and the first of several samples alone", () => {
    const dir = workplace()
    const rows = ["bake a cake", "sew a kite", "fix a chair", "paint a fence"].flatMap((what, i) => [
      { id: `text ${i}`, prompt: asked(`how do i ${what} ?`) },
      { id: i, input_ids: Array.from({ length: 1 + 30 * i }, (_, t) => 20 + ((t * 7 + i) % 800)) }
    ])
    writeFileSync(join(dir, "all.jsonl"), jsonl(rows))
    writeFileSync(join(dir, "last.jsonl"), jsonl([...rows].reverse().slice(0, 3)))
    const common = ["generate", "--model", sandbox, "--max-tokens", "24", "--seed", "3", "--top-p", "0.95"]
    const all = charter(dir, ...common, "--in", "all.jsonl", "--out", "all.out")
    assert.strictEqual(all.status, 0, all.stderr)
    const some = charter(dir, ...common, "--in", "last.jsonl", "--n", "3")
    assert.strictEqual(some.status, 0, some.stderr)

    const lines = readFileSync(join(dir, "all.out"), "utf8").trim().split("\n")
    assert.deepStrictEqual(
      lines.map((line) => JSON.parse(line).id),
      rows.map(({ id }) => id)
    )
    const samples = parse(some.stdout)
    assert.deepStrictEqual(
      samples.map(({ id, sample }) => `${id}/${sample}`),
      [...rows]
        .reverse()
        .slice(0, 3)
        .flatMap(({ id }) => [0, 1, 2].map((i) => `${id}/${i}`))
    )
    for (const { sample, ...row } of samples) {
      if (sample === 0) assert.include(lines, JSON.stringify(row))
      else assert.notInclude(lines, JSON.stringify(row))
      assert.include(["stop", "length"], row["finish"])
    }
  })

  it("cuts a completion before a stop text and names the rows that it cannot continue", () => {
    const dir = workplace()
    const rows = [
      { prompt: asked("how do i bake a cake ?") },
      { text: "no prompt" },
      { prompt: asked("how do i bake a cake ?"), completion: " well" },
      { prompt: "word ".repeat(300) },
      { input_ids: [99_999] }
    ]
    writeFileSync(join(dir, "rows.jsonl"), jsonl(rows))
    const { status, stdout } = charter(dir, "generate", "--model", sandbox, "--in", "rows.jsonl", "--stop", " cake")
    assert.strictEqual(status, 3)
    const [row, ...more] = parse(stdout)
    assert.strictEqual(more.length, 0)
    assert.notInclude(row!["completion"], "cake")
    assert.strictEqual(row!["finish"], "stop")
    assert.deepStrictEqual(
      read(join(dir, "rows.rejected.jsonl")).map(({ line }) => line),
      [2, 3, 4, 5]
    )
  })

  it.live(
    "puts what a text goes on with behind it, with the space that a tokenizer takes from a text's beginning",
    () =>
      Effect.gen(function* () {
        const dir = workplace()
        cpSync(Golden.folder, join(dir, "model"), { recursive: true })
        writeFileSync(join(dir, "model/tokenizer.json"), JSON.stringify(llama2()))
        const { decode, encode, encodeAfter, specialIds } = yield* Tokenizer.load(join(dir, "model"))
        writeFileSync(join(dir, "rows.jsonl"), jsonl(["the assistant", "a\n", "é"].map((prompt) => ({ prompt }))))
        const args = ["generate", "--model", "model", "--in", "rows.jsonl", "--n", "60", "--max-tokens", "3"]
        const { status, stderr, stdout } = charter(dir, ...args)
        assert.strictEqual(status, 0, stderr)
        const rows = parse(stdout)
        for (const { completion, prompt, token_ids } of rows) {
          const said = token_ids.filter((id: number) => !specialIds.has(id))
          assert.strictEqual(prompt + completion, decode([...encode(prompt), ...said]))
        }

        // What is the tokenizer's own way to write it is scored as the tokens that were sampled.
        const isOwn = ({ completion, token_ids }: Record<string, any>) =>
          completion.startsWith(" ") && String(encodeAfter(completion)) === String(token_ids)
        const own = rows.filter(isOwn)
        assert.isAbove(own.length, 0)
        writeFileSync(join(dir, "own.jsonl"), jsonl(own.map(({ completion, prompt }) => ({ prompt, completion }))))
        const scored = charter(dir, "score", "--model", "model", "--in", "own.jsonl")
        assert.strictEqual(scored.status, 0, scored.stderr)
        for (const [i, { token_logprobs }] of parse(scored.stdout).entries()) {
          assert.isBelow(Golden.distance(own[i]!["logprobs"], token_logprobs), 1e-3)
        }

        // A stop text may be that space, or begin with it.
        const stopped = parse(charter(dir, ...args, "--stop", " ").stdout)
        for (const [i, row] of stopped.entries()) {
          const { completion, logprobs, token_ids } = rows[i]!
          if (!completion.startsWith(" ")) continue
          const end = {
            completion: "",
            token_ids: token_ids.slice(0, 1),
            logprobs: logprobs.slice(0, 1),
            finish: "stop"
          }
          assert.deepStrictEqual(row, { ...rows[i], ...end })
        }
      })
  )

  it("rejects a row that can never have its place in memory, and does the rest", () => {
    const dir = workplace()
    writeFileSync(join(dir, "rows.jsonl"), jsonl([{ input_ids: Array(150).fill(30) }, { input_ids: [30, 31] }]))
    // One megabyte holds two rows of 64 tokens of the sandbox's model, and none of 192.
    const args = ["--model", sandbox, "--in", "rows.jsonl", "--max-tokens", "8", "--memory", "1"]
    const { status, stderr, stdout } = charter(dir, "generate", ...args)
    assert.strictEqual(status, 3, stderr)
    assert.deepStrictEqual(
      parse(stdout).map(({ id }) => id),
      [2]
    )
    assert.match(read(join(dir, "rows.rejected.jsonl"))[0]!["reason"], /need \d+ bytes of keys and values/)
  })

  it("rejects a row whose prompt JSON cannot hold, and does the rest", () => {
    const dir = workplace()
    cpSync(sandbox, join(dir, "model"), { recursive: true })
    writeFileSync(join(dir, "model", "chat_template.jinja"), "{% for m in messages %}{{ m.content }}{% endfor %}")
    const odd = '{"id": "odd", "prompt": [{"role": "user", "content": "how do i bake a cake ?", "score": 1e999}]}'
    const rows =
      jsonl([{ id: "first", prompt: asked("how do i bake a cake ?") }]) +
      `\n${odd}\n` +
      jsonl([{ id: "last", input_ids: [20] }])
    writeFileSync(join(dir, "rows.jsonl"), rows)
    const args = ["--model", "model", "--in", "rows.jsonl", "--out", "out.jsonl", "--max-tokens", "1"]
    const { status, stderr } = charter(dir, "generate", ...args)
    assert.strictEqual(status, 3, stderr)
    assert.deepStrictEqual(
      read(join(dir, "out.jsonl")).map(({ id }) => id),
      ["first", "last"]
    )
    assert.deepStrictEqual(read(join(dir, "rows.rejected.jsonl")), [
      { line: 2, reason: "the prompt cannot be written beside its completion: `score` is Infinity" }
    ])
  })

  it("puts tools and variables of a row to its chat template, and keeps them beside its prompt", () => {
    const dir = workplace()
    cpSync(sandbox, join(dir, "model"), { recursive: true })
    const template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ tools[0].name if tools }}{{ style }}"
    writeFileSync(join(dir, "model", "chat_template.jinja"), template)
    const row = { id: "same", prompt: [{ role: "user", content: "how do i bake a cake ?" }] }
    const given = { tools: [{ name: " with care" }], chat_template_kwargs: { style: " and flour" } }
    // The second is what the template makes of the first.
    const written = [{ role: "user", content: "how do i bake a cake ? with care and flour" }]
    writeFileSync(join(dir, "rows.jsonl"), jsonl([{ ...row, ...given }, { ...row, prompt: written }, row]))
    const args = ["--model", "model", "--in", "rows.jsonl", "--max-tokens", "8"]
    const { status, stderr, stdout } = charter(dir, "generate", ...args)
    assert.strictEqual(status, 0, stderr)
    const [first, second, third] = parse(stdout)
    assert.deepStrictEqual({ ...first, ...row, prompt: written }, { ...second, ...given })
    assert.notDeepEqual(first!["logprobs"], third!["logprobs"])
    assert.notProperty(third, "tools")
  })

  it.skipIf(!RealModel.exists)("continues chats greedily with exactly transformers' text", () => {
    const dir = workplace()
    const { greedy } = JSON.parse(readFileSync(new URL("../fixtures/smollm2.json", import.meta.url), "utf8"))
    const cases = greedy as ReadonlyArray<{ ids: Array<number>; messages: unknown; text: string }>
    const most = String(Math.max(...cases.map(({ ids }) => ids.length)))
    writeFileSync(join(dir, "rows.jsonl"), jsonl(cases.map(({ messages }) => ({ prompt: messages }))))
    const args = ["--model", RealModel.dir, "--in", "rows.jsonl", "--temperature", "0", "--max-tokens", most]
    const { status, stderr, stdout } = charter(dir, "generate", ...args)
    assert.strictEqual(status, 0, stderr)
    for (const [i, { completion, token_ids }] of parse(stdout).entries()) {
      assert.deepStrictEqual(token_ids.slice(0, cases[i]!.ids.length), cases[i]!.ids)
      assert.isTrue(completion.startsWith(cases[i]!.text), completion)
    }
  })

  const wrong: ReadonlyArray<readonly [said: string, args: ReadonlyArray<string>]> = [
    ["top_p 1.5", ["--top-p", "1.5"]],
    ["temperature -1", ["--temperature=-1"]],
    ["--n 0", ["--n", "0"]],
    ["--n 100000000 is above 10000", ["--n", "100000000"]],
    ["A stop text is empty", ["--model", sandbox, "--stop", ""]],
    ["no tokenizer.json", ["--stop", "x"]],
    ["missing.jsonl", ["--in", "missing.jsonl"]],
    ["nowhere", ["--adapter", "nowhere"]]
  ]
  it.each(wrong)("refuses in a sentence, with nothing written: %s", (said, args) => {
    const dir = workplace()
    writeFileSync(join(dir, "rows.jsonl"), jsonl([{ input_ids: [3] }]))
    const input = args[0] === "--in" ? [] : ["--in", "rows.jsonl"]
    const model = args.includes("--model") ? [] : ["--model", Golden.folder]
    const { status, stderr, stdout } = charter(dir, "generate", ...model, ...input, ...args)
    assert.strictEqual(status, 2, stderr)
    assert.strictEqual(stdout, "")
    assert.include(stderr, said)
    assert.deepStrictEqual(readdirSync(dir), ["rows.jsonl"])
  })

  it("says on standard error why the engine cannot start, and nothing on standard output", () => {
    const dir = workplace()
    writeFileSync(join(dir, "rows.jsonl"), jsonl([{ input_ids: [3] }]))
    writeFileSync(join(dir, "cache"), "a file, which cannot be a folder")
    const args = [main, "generate", "--model", Golden.folder, "--precision", "int8", "--in", "rows.jsonl"]
    const env = { ...process.env, XDG_CACHE_HOME: join(dir, "cache") }
    const { status, stderr, stdout } = spawnSync(process.execPath, args, { cwd: dir, encoding: "utf8", env })
    assert.strictEqual(status, 1)
    assert.strictEqual(stdout, "")
    assert.include(stderr, "set XDG_CACHE_HOME to a folder of yours.")
    assert.notInclude(stderr, "    at ")
  })

  it("helps with an example", () => {
    const { status, stdout } = charter(workplace(), "generate", "--help")
    assert.strictEqual(status, 0)
    assert.include(stdout, "charter generate --model")
    assert.include(stdout, "begins with a dash as --stop=TEXT")
  })
})
