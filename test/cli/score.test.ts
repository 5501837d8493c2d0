import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Score from "../../src/cli/score.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Golden from "../engine/golden.ts"
import * as RealModel from "../model/realModel.ts"
import { workplace } from "../workplace.ts"

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))

const charter = (cwd: string, ...args: ReadonlyArray<string>) =>
  spawnSync(process.execPath, [main, ...args], { cwd, encoding: "utf8" })

const jsonl = (rows: ReadonlyArray<unknown>) => rows.map((row) => JSON.stringify(row)).join("\n")

const read = (file: string) =>
  readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))

describe("charter score", () => {
  it("says of one row what it came to", () => {
    const summary = { rows: 1, rejected: 0, tokens: 1, seconds: 0.5, tokens_per_second: 2, mean_logprob: null }
    assert.strictEqual(Score.words(summary), "Scored 1 of 1 row, 1 token, in 1 s (2 tokens/s).")
  })

  it.live("gives transformers' log-probabilities to token ids, without a tokenizer, and names the rows it cannot", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const mask = yield* golden.integers("attention_mask")
      const expected = yield* golden.floats("token_logprobs")
      const rows = golden.rows.map((row, b) => row.filter((_, t) => mask[b * 24 + t] === 1))
      const dir = workplace()
      const file = [
        jsonl(rows.map((input_ids, b) => (b === 0 ? { input_ids } : { id: `row-${b}`, input_ids }))),
        "{ not json",
        jsonl([
          { id: 7, input_ids: [3] },
          { input_ids: [3, 320] },
          { input_ids: [] },
          { text: "words" },
          { input_ids: Array(257).fill(1) }
        ])
      ].join("\n")
      writeFileSync(join(dir, "rows.jsonl"), file)
      const args = ["score", "--model", Golden.folder, "--in", "rows.jsonl", "--out", "scores.jsonl", "--json"]
      const { status, stderr, stdout } = charter(dir, ...args)

      assert.strictEqual(status, 3, stderr)
      const scores = read(join(dir, "scores.jsonl"))
      assert.deepStrictEqual(
        scores.map(({ id, tokens }) => [id, tokens]),
        [
          [1, rows[0]!.length],
          ["row-1", rows[1]!.length],
          ["row-2", rows[2]!.length],
          [7, 1]
        ]
      )
      rows.forEach((ids, b) => {
        const { logprob, token_logprobs } = scores[b]
        assert.isBelow(Golden.distance(token_logprobs, expected.subarray(b * 23, b * 23 + ids.length - 1)), 1e-4)
        assert.closeTo(
          logprob,
          (token_logprobs as ReadonlyArray<number>).reduce((a, x) => a + x, 0),
          1e-9
        )
      })
      assert.deepStrictEqual(scores[3].token_logprobs, [])
      assert.deepStrictEqual(
        read(join(dir, "rows.rejected.jsonl")).map(({ line, reason }) => [line, reason.split(":")[0]]),
        [
          [4, "not valid JSON"],
          [6, "the token 320 is not in the model's vocabulary of 320"],
          [7, "it has no tokens"],
          [8, "the model's folder has no tokenizer.json to read text with; give input_ids"],
          [9, "257 tokens are more than the 256 positions of the model"]
        ]
      )
      const { rejected, rows: all, tokens } = JSON.parse(stdout)
      assert.deepStrictEqual({ rejected, all, tokens }, { rejected: 5, all: 9, tokens: rows.flat().length + 1 })
      assert.include(stderr, "5 rows were rejected of 9; rows.rejected.jsonl says why.")
      assert.deepStrictEqual(readdirSync(dir).toSorted(), ["rows.jsonl", "rows.rejected.jsonl", "scores.jsonl"])
    })
  )

  it.live("gives rewards with the adapter of a reward model, on standard output", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const dir = workplace()
      const { config } = golden.checkpoint
      const targets = { rank: 4, alpha: 8, targets: ["q_proj", "v_proj"] }
      const adapter = yield* Effect.fromResult(Lora.init(config, targets, 5, { score: true }))
      yield* Lora.write(join(dir, "reward"), adapter, Golden.folder)
      writeFileSync(join(dir, "rows.jsonl"), jsonl(golden.rows.map((input_ids) => ({ input_ids }))))
      const { status, stderr, stdout } = charter(
        dir,
        ...["score", "--model", Golden.folder, "--adapter", "reward", "--in", "rows.jsonl"]
      )
      assert.strictEqual(status, 0, stderr)
      const rewards = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
      for (const row of rewards) assert.deepStrictEqual(Object.keys(row), ["id", "tokens", "reward"])
      assert.strictEqual(rewards.length, 3)
      // A fresh adapter changes nothing: the reward is the score head's product with the base's last hidden state.
      for (const { reward } of rewards) assert.isTrue(Number.isFinite(reward) && Math.abs(reward) > 0)
      assert.notProperty(rewards[0], "logprob")
      assert.isFalse(existsSync(join(dir, "rows.rejected.jsonl")))
    })
  )

  it("refuses a file none of whose rows it can score", () => {
    const dir = workplace()
    const score = (rows: ReadonlyArray<unknown>) => {
      writeFileSync(join(dir, "rows.jsonl"), jsonl(rows))
      return charter(dir, "score", "--model", Golden.folder, "--in", "rows.jsonl", "--out", "scores.jsonl")
    }
    const one = score([{ input_ids: [3, 320] }])
    assert.strictEqual(one.status, 2)
    assert.match(one.stderr, /No row of rows\.jsonl can be used: line 1: .*320.*\.\n$/)
    const two = score([{ input_ids: [3, 320] }, { input_ids: [-1] }])
    assert.strictEqual(two.status, 2)
    assert.include(two.stderr, "; the reasons of all 2 are in rows.rejected.jsonl.")
  })

  // A terminal that is closed takes standard error with it.
  const interruptions = [
    ["SIGINT", false],
    ["SIGHUP", true]
  ] as const
  it.each(interruptions)("leaves nothing behind, interrupted by %s", { timeout: 30_000 }, async (by, gone) => {
    const dir = workplace()
    const rows = Array.from({ length: 20_000 }, (_, i) => ({
      input_ids: Array.from({ length: 200 }, (_, t) => (i + t) % 320)
    }))
    writeFileSync(join(dir, "rows.jsonl"), jsonl(rows))
    const child = spawn(
      process.execPath,
      [main, "score", "--model", Golden.folder, "--in", "rows.jsonl", "--out", "out.jsonl"],
      {
        cwd: dir
      }
    )
    const ended = new Promise<number | string | null>((resolve) =>
      child.on("exit", (code, signal) => resolve(signal ?? code))
    )
    // The answers are under way as soon as there is a file beside their place.
    while (!readdirSync(dir).some((name) => name.endsWith(".part"))) await new Promise((next) => setTimeout(next, 20))
    if (gone) child.stderr.destroy()
    child.kill(by)
    assert.include([130, "SIGINT"], await ended)
    assert.deepStrictEqual(readdirSync(dir), ["rows.jsonl"])
  })

  const refusals: ReadonlyArray<readonly [said: string, args: ReadonlyArray<string>]> = [
    ["There is no file missing.jsonl.", ["--model", Golden.folder, "--in", "missing.jsonl"]],
    ["nowhere does not exist", ["--model", "nowhere", "--in", "rows.jsonl"]],
    ["empty is not a model", ["--model", "empty", "--in", "rows.jsonl"]],
    ["empty is not an adapter", ["--model", Golden.folder, "--adapter", "empty", "--in", "rows.jsonl"]],
    ["--out is the file of --in", ["--model", Golden.folder, "--in", "rows.jsonl", "--out", "./rows.jsonl"]],
    ["There is no folder none for --out", ["--model", Golden.folder, "--in", "rows.jsonl", "--out", "none/o.jsonl"]],
    ["precision", ["--model", Golden.folder, "--in", "rows.jsonl", "--precision", "int3"]]
  ]
  it.each(refusals)("refuses in a sentence: %s", (said, args) => {
    const dir = workplace()
    mkdirSync(join(dir, "empty"))
    writeFileSync(join(dir, "rows.jsonl"), '{"input_ids": [1, 2]}\n')
    const { status, stderr, stdout } = charter(dir, "score", ...args)
    assert.strictEqual(status, 2, stderr)
    assert.strictEqual(stdout, "")
    assert.include(stderr, said)
    assert.notInclude(stderr, "    at ")
    assert.deepStrictEqual(readdirSync(dir).toSorted(), ["empty", "rows.jsonl"])
  })

  it("helps with an example", () => {
    const { status, stdout } = charter(workplace(), "score", "--help")
    assert.strictEqual(status, 0)
    assert.include(stdout, "charter score --model ./SmolLM2-135M-Instruct --in texts.jsonl --out scores.jsonl")
  })
})

describe.skipIf(!RealModel.exists)("charter score on SmolLM2-135M-Instruct", () => {
  it(
    "gives transformers' log-probabilities to texts, to a prompt's completions and to messages",
    { timeout: 60_000 },
    () => {
      const fixture = JSON.parse(readFileSync(new URL("../fixtures/smollm2.json", import.meta.url), "utf8"))
      const { choice, score } = fixture
      const dir = workplace()
      const rows = [
        ...score.map(({ text }: { text: string }) => ({ text })),
        ...score.map(({ ids }: { ids: Array<number> }) => ({ input_ids: ids })),
        ...choice.options.map((completion: string) => ({ prompt: choice.prompt, completion })),
        {
          messages: [
            { role: "user", content: "Hi" },
            { role: "assistant", content: "Hello!" }
          ]
        },
        { prompt: [{ role: "user", content: "Hi" }], completion: [{ role: "assistant", content: "Hello!" }] },
        { messages: [{ role: "user", content: "Hi" }] },
        { prompt: "Hi", completion: "" }
      ]
      writeFileSync(join(dir, "rows.jsonl"), jsonl(rows))
      const { status, stderr } = charter(
        dir,
        "score",
        "--model",
        RealModel.dir,
        "--in",
        "rows.jsonl",
        "--out",
        "scores.jsonl"
      )
      assert.strictEqual(status, 3, stderr)
      const scores = read(join(dir, "scores.jsonl"))
      const texts = score.length
      score.forEach(({ token_logprobs }: { token_logprobs: Array<number> }, i: number) => {
        assert.isBelow(Golden.distance(scores[i].token_logprobs, token_logprobs), 2e-3)
        assert.isBelow(Golden.distance(scores[texts + i].token_logprobs, token_logprobs), 2e-3)
      })
      const options = scores.slice(2 * texts, 2 * texts + choice.options.length)
      assert.isBelow(
        Golden.distance(
          options.map(({ logprob }) => logprob),
          choice.logprobs
        ),
        2e-3
      )
      const [messages, turns] = scores.slice(-2)
      // "Hello", "!" and the token that ends the turn.
      assert.strictEqual(messages.token_logprobs.length, 3)
      assert.isBelow(Golden.distance(messages.token_logprobs, turns.token_logprobs), 1e-4)
      assert.deepStrictEqual(
        read(join(dir, "rows.rejected.jsonl")).map(({ reason }) => reason),
        ["the conversation does not end with a message of the assistant", "the completion is empty"]
      )
    }
  )
})
