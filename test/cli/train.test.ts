import { assert, describe, it, vi } from "@effect/vitest"
import { Effect } from "effect"
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Lora from "../../src/model/Lora.ts"
import * as Atomic from "../../src/recipes/Atomic.ts"
import * as Golden from "../engine/golden.ts"
import "../quiet.ts"
import { contents, jsonl, lines, tiny, tokenRows, train, workplace } from "./TrainFixture.ts"

/** Five steps as the golden values were made. */
const five = [
  ...["--adapter", join(tiny, "adapter"), "--learning-rate", "0.01", "--schedule", "constant", "--warmup", "0"],
  ...["--weight-decay", "0.01", "--max-grad-norm", "1", "--steps", "5", "--batch-size", "3"]
]

/** The rows of the golden batch. */
const goldenRows = Effect.gen(function* () {
  const golden = yield* Golden.load
  const attention = yield* golden.integers("attention_mask")
  return golden.rows.map((input_ids, b) => ({
    input_ids,
    attention_mask: attention.slice(b * 24, b * 24 + 24),
    labels: input_ids.map((id, t) => (golden.lossMask[b * 24 + t] === 0 ? -100 : id))
  }))
})

describe("charter train sft", () => {
  it.effect("takes the five AdamW steps that peft and PyTorch take, from {input_ids, labels} without a tokenizer", () =>
    Effect.gen(function* () {
      const golden = yield* Golden.load
      const dir = workplace()
      const data = jsonl(join(dir, "rows.jsonl"), yield* goldenRows)
      const out = join(dir, "out")
      const { status, stderr } = yield* Effect.promise(() =>
        train("sft", "--model", tiny, "--data", data, "--out", out, ...five)
      )
      assert.strictEqual(status, 0, stderr)
      const steps = lines(join(out, "metrics.jsonl"))
      const losses = steps.map((line) => line["loss"] as number)
      assert.isBelow(Golden.distance(losses, yield* golden.floats("lora_losses")), 1e-4)
      const norms = steps.map((line) => line["grad_norm"] as number)
      assert.isBelow(Golden.distance(norms, yield* golden.floats("lora_grad_norms")), 1e-3)
      for (const name of ["step", "learning_rate", "tokens", "tokens_per_second", "seconds"]) {
        assert.isTrue(
          steps.every((line) => typeof line[name] === "number"),
          name
        )
      }
      const adapter = yield* Lora.read(out, golden.checkpoint.config)
      for (const [name, { data: numbers }] of adapter.tensors) {
        const peft = `lora_after5.base_model.model.${name.replace(/lora_([AB])$/, "lora_$1.default.weight")}`
        const expected = yield* golden.floats(peft)
        assert.isBelow(Golden.distance(numbers, expected), 1e-3 * Golden.largest(expected), name)
      }
    })
  )

  it("trains on a GPU, or says that there is none before anything is written", async () => {
    const dir = workplace()
    const data = jsonl(join(dir, "rows.jsonl"), tokenRows(4))
    const out = join(dir, "out")
    const { status, stderr } = await train("sft", "--model", tiny, "--data", data, "--out", out, "--device", "cuda")
    if (status === 0) return assert.isTrue(existsSync(join(out, "adapter_model.safetensors")))
    assert.strictEqual(status, 2)
    assert.match(stderr, /cannot compute on cuda here: .*leave out the device/)
    assert.isFalse(existsSync(out))
  })

  it("says that a finished folder is finished and changes nothing; refuses other settings and names them", async () => {
    const dir = workplace()
    const data = jsonl(join(dir, "rows.jsonl"), tokenRows(4))
    const out = join(dir, "out")
    const args = ["sft", "--model", tiny, "--data", data, "--out", out, "--batch-size", "2"]
    assert.strictEqual((await train(...args)).status, 0)
    const before = contents(out)
    const again = await train(...args)
    assert.strictEqual(again.status, 0)
    assert.include(again.stdout, "is finished (2 steps); nothing was changed")
    const other = await train(...args, "--learning-rate", "0.5", "--seed", "9")
    assert.strictEqual(other.status, 2)
    assert.include(other.stderr, "learningRate is 0.0002 there and 0.5 now; seed is 1 there and 9 now")
    writeFileSync(data, readFileSync(data, "utf8").split("\n").slice(1).join("\n"))
    assert.include((await train(...args)).stderr, "data is ")
    assert.deepStrictEqual(contents(out), before)
    assert.include((await train(...args.with(6, dir))).stderr, "is no training")
    // What a process leaves that is killed before it has begun is no other training.
    const early = join(dir, "early")
    mkdirSync(early)
    writeFileSync(join(early, "rejected.jsonl"), `${JSON.stringify({ file: data, line: 1, reason: "it is empty" })}\n`)
    const half = Atomic.unfinished(join(early, "train.json"))
    writeFileSync(half, "{")
    assert.strictEqual((await train(...args.with(6, early))).status, 0)
    assert.isFalse(existsSync(half))
  })

  it("rejects bad rows one by one with a reason before the first step", async () => {
    const dir = workplace()
    const [good] = tokenRows(1)
    const data = jsonl(join(dir, "rows.jsonl"), [
      good,
      { input_ids: Array.from({ length: 300 }, () => 5) },
      { input_ids: [5, 6, 7], labels: [-100, -100, -100] },
      { input_ids: [5, 6, 7], labels: [5, -100, -100] },
      { input_ids: [5, 6, 7], labels: [6, 7, -100] },
      { input_ids: [5, 6], labels: [5] },
      { input_ids: [5, 999] },
      { input_ids: [] },
      { input_ids: [5.5] },
      { prompt: "who?", completion: "me" },
      { prompt: "who?", completion: "  " },
      { prompt: "who?" },
      { input_ids: [5, 6, 7, 8, 9, 10, 11, 12, 13] },
      { input_ids: [5, 6, 7], completion_mask: [0, 0, 0] },
      { input_ids: [5] },
      { input_ids: [5, 6, 7], label: [-100, 6, 7] },
      { input_ids: [5, 6, 7], loss_mask: [0, 1, 1] }
    ])
    const out = join(dir, "out")
    const result = await train("sft", "--model", tiny, "--data", data, "--out", out, "--max-length", "24")
    assert.strictEqual(result.status, 0, result.stderr)
    const reasons = Object.fromEntries(
      lines(join(out, "rejected.jsonl")).map(({ line, reason }) => [line, reason as string])
    )
    assert.deepStrictEqual(Object.keys(reasons).map(Number), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17])
    assert.include(reasons["2"], "300 tokens are more than the 256 positions")
    assert.include(reasons["3"], "its mask has nothing in it: no token is to be learnt")
    // The first token is never predicted: a label on it alone is none.
    assert.include(reasons["4"], "its mask has nothing in it but the first token")
    assert.include(reasons["5"], "not shifted")
    assert.include(reasons["6"], "not as long as")
    assert.include(reasons["7"], "not in the model's vocabulary")
    assert.include(reasons["8"], "no tokens")
    assert.include(reasons["10"], "no tokenizer.json")
    assert.include(reasons["11"], "the completion is empty")
    assert.include(reasons["12"], "a prompt without an answer")
    assert.include(reasons["14"], "its mask has nothing in it: no token is to be learnt")
    assert.include(reasons["15"], "it is a single token")
    // Read over, a mistyped key would have every token learnt.
    assert.strictEqual(reasons["16"], "it has `label`, where `labels` is read")
    assert.strictEqual(reasons["17"], "it has `loss_mask`, where `completion_mask` is read")
    assert.include(result.stderr, "15 rows were rejected (line 2: 300 tokens")
    assert.strictEqual(JSON.parse(readFileSync(join(out, "summary.json"), "utf8")).rows, 2)
  })

  it("keeps the newest checkpoints and the best, and evaluates at each", async () => {
    const dir = workplace()
    const data = jsonl(join(dir, "rows.jsonl"), tokenRows(12))
    const held = jsonl(join(dir, "eval.jsonl"), [...tokenRows(3, 2), { input_ids: [] }])
    const out = join(dir, "out")
    const args = ["--batch-size", "2", "--save-every", "1", "--keep", "2", "--eval", held, "--learning-rate", "0.05"]
    const { status, stderr } = await train("sft", "--model", tiny, "--data", data, "--out", out, ...args)
    assert.strictEqual(status, 0, stderr)
    const losses = lines(join(out, "metrics.jsonl")).map((line) => line["eval_loss"] as number)
    const best = 1 + losses.indexOf(Math.min(...losses))
    assert.deepStrictEqual(
      readdirSync(join(out, "checkpoints")).toSorted(),
      [...new Set([best, 5, 6])].map((n) => `step-${n}`).toSorted()
    )
    assert.isTrue(existsSync(join(out, "checkpoints", "step-6", "adapter_config.json")))
    const summary = JSON.parse(readFileSync(join(out, "summary.json"), "utf8"))
    assert.deepStrictEqual(summary.best, { step: best, eval_loss: Math.min(...losses) })
    // Rows of both files are told apart, in `rejected.jsonl` by their file.
    const { eval_rejected, eval_rows, rejected, rows } = summary
    assert.deepStrictEqual([rows, rejected, eval_rows, eval_rejected], [12, 0, 3, 1])
    assert.strictEqual(lines(join(out, "rejected.jsonl"))[0]!["file"], held)
  })

  it("keeps a checkpoint and evaluates where it is time, though the step was skipped", async () => {
    const dir = workplace()
    const data = jsonl(join(dir, "rows.jsonl"), tokenRows(12))
    const out = join(dir, "out")
    const args = ["--learning-rate", "1e38", "--warmup", "0", "--steps", "2", "--save-every", "1", "--eval", data]
    const written = vi.spyOn(process.stderr, "write")
    const { status, stdout, stderr } = await train("sft", "--model", tiny, "--data", data, "--out", out, ...args)
    const progress = written.mock.calls.map(([text]) => String(text)).join("")
    written.mockRestore()
    assert.strictEqual(status, 0, stderr)
    // All steps are over.
    assert.match(progress, /sft +2\/2 /)
    const steps = lines(join(out, "metrics.jsonl"))
    assert.deepStrictEqual(
      steps.map(({ skipped }) => skipped),
      [undefined, true]
    )
    assert.isTrue(steps.every((line) => "eval_loss" in line))
    assert.deepStrictEqual(readdirSync(join(out, "checkpoints")).toSorted(), ["step-1", "step-2"])
    // The loss that is told is that of the last step that had one.
    assert.include(stdout, `Trained sft for 2 steps on 12 rows; loss ${(steps[0]!["loss"] as number).toFixed(4)}.`)
  })

  it("learns nearly the same with frozen weights in 8 bits, and with layers computed again", async () => {
    const dir = workplace()
    const data = jsonl(join(dir, "rows.jsonl"), tokenRows(12))
    vi.stubEnv("XDG_CACHE_HOME", join(dir, "cache"))
    const losses: Array<ReadonlyArray<number>> = []
    const int8 = ["--precision", "int8"]
    for (const more of [[], ["--recompute"], int8, [...int8, "--recompute"]]) {
      const out = join(dir, `out ${losses.length}`)
      const result = await train("sft", "--model", tiny, "--data", data, "--out", out, "--epochs", "3", ...more)
      assert.strictEqual(result.status, 0, result.stderr)
      losses.push(lines(join(out, "metrics.jsonl")).map((line) => line["loss"] as number))
    }
    vi.unstubAllEnvs()
    assert.isBelow(Golden.distance(losses[0]!, losses[1]!), 1e-5)
    assert.isBelow(Golden.distance(losses[0]!, losses[2]!), 0.02)
    assert.notDeepEqual(losses[0], losses[2])
    // Codes that are made again are the same codes.
    assert.isBelow(Golden.distance(losses[2]!, losses[3]!), 1e-5)
  })

  it("learns the same with short rows side by side", async () => {
    const dir = workplace()
    const data = jsonl(join(dir, "rows.jsonl"), tokenRows(12))
    const losses = await Promise.all(
      [[], ["--packing"]].map(async (packing, i) => {
        const out = join(dir, `out ${i}`)
        const result = await train("sft", "--model", tiny, "--data", data, "--out", out, "--epochs", "3", ...packing)
        assert.strictEqual(result.status, 0, result.stderr)
        return lines(join(out, "metrics.jsonl")).map((line) => line["loss"] as number)
      })
    )
    assert.isBelow(Golden.distance(losses[0]!, losses[1]!), 1e-4)
  })

  it("drives the loss of one batch under 0.05", async () => {
    const dir = workplace()
    const data = jsonl(join(dir, "rows.jsonl"), tokenRows(2))
    const out = join(dir, "out")
    const args = ["--full", "--steps", "60", "--learning-rate", "0.01", "--schedule", "constant"]
    assert.strictEqual((await train("sft", "--model", tiny, "--data", data, "--out", out, ...args)).status, 0)
    assert.isBelow(lines(join(out, "metrics.jsonl")).at(-1)!["loss"] as number, 0.05)
  })

  it("writes a whole model with --full, which can be trained on", async () => {
    const dir = workplace()
    const data = jsonl(join(dir, "rows.jsonl"), tokenRows(4))
    const out = join(dir, "out")
    const args = ["--full", "--steps", "3", "--learning-rate", "0.01"]
    const first = await train("sft", "--model", tiny, "--data", data, "--out", out, ...args)
    assert.strictEqual(first.status, 0, first.stderr)
    const second = join(dir, "second")
    assert.strictEqual((await train("sft", "--model", out, "--data", data, "--out", second, ...args)).status, 0)
    const losses = [out, second].map((folder) => lines(join(folder, "metrics.jsonl"))[0]!["loss"] as number)
    assert.isBelow(losses[1]!, losses[0]!)
  })
})

describe("charter train refuses in a sentence, with exit code 2 and nothing written", () => {
  const cases: ReadonlyArray<readonly [said: string, args: ReadonlyArray<string>]> = [
    ["does not exist", ["--model", "nowhere"]],
    ["There is no file missing.jsonl", ["--data", "missing.jsonl"]],
    ["no row that can be used", ["--data", "empty.jsonl"]],
    ["has the rank 4 and --lora-rank says 8", ["--adapter", join(tiny, "adapter"), "--lora-rank", "8"]],
    ["has the alpha 8 and --lora-alpha says 4", ["--adapter", join(tiny, "adapter"), "--lora-alpha", "4"]],
    ["--lora-targets says q_proj", ["--adapter", join(tiny, "adapter"), "--lora-targets", "q_proj"]],
    ["is not an adapter", ["--adapter", tiny]],
    ["leave out --adapter", ["--adapter", join(tiny, "adapter"), "--full"]],
    ["leave out --full", ["--full", "--lora-rank", "8"]],
    ["leave out --precision", ["--full", "--precision", "int8"]],
    ["has the target w_proj", ["--lora-targets", "q_proj,w_proj"]],
    ["--epochs and --steps were both given", ["--epochs", "2", "--steps", "3"]],
    ["--batch-size has to be 1 or more, and is 0", ["--batch-size", "0"]],
    ["--learning-rate has to be above 0", ["--learning-rate", "-1"]],
    ["--learning-rate is 1e+39, which 32 bits cannot hold", ["--learning-rate", "1e39"]],
    ["--learning-rate is 1e-50, which 32 bits cannot hold", ["--learning-rate", "1e-50"]],
    ["more than the 256 positions", ["--max-length", "257"]]
  ]
  it.each(cases)("%s", async (said, args) => {
    const dir = workplace()
    const data = jsonl(join(dir, "rows.jsonl"), tokenRows(2))
    jsonl(join(dir, "empty.jsonl"), [])
    const given = args.map((arg) => (arg === "empty.jsonl" ? join(dir, arg) : arg))
    const usual = ["--model", tiny, "--data", data].flatMap((_, i, all) =>
      i % 2 === 0 && !given.includes(all[i]!) ? [all[i]!, all[i + 1]!] : []
    )
    const out = join(dir, "out")
    const { status, stderr } = await train("sft", ...usual, "--out", out, ...given)
    assert.strictEqual(status, 2, stderr)
    assert.include(stderr, said)
    assert.isFalse(existsSync(out))
  })
})

describe("a chosen and a rejected completion", () => {
  const pair = (i: number) => ({
    prompt_input_ids: [10 + i, 11, 12],
    chosen_input_ids: [20, 30 + i, 2],
    rejected_input_ids: [21, 40 + i, 2]
  })

  it("are learnt apart by a reward model: separable pairs are all right in the end", async () => {
    const dir = workplace()
    const data = jsonl(
      join(dir, "pairs.jsonl"),
      Array.from({ length: 8 }, (_, i) => pair(i))
    )
    const out = join(dir, "out")
    const args = ["--steps", "30", "--learning-rate", "0.02", "--eval", data]
    const { status, stderr } = await train("reward", "--model", tiny, "--data", data, "--out", out, ...args)
    assert.strictEqual(status, 0, stderr)
    const last = lines(join(out, "metrics.jsonl")).at(-1)!
    assert.strictEqual(last["eval_accuracy"], 1)
    assert.isBelow(last["eval_loss"] as number, 0.2)
  })

  it("are learnt apart by a policy: DPO's margin of rewards rises from 0", async () => {
    const dir = workplace()
    const data = jsonl(
      join(dir, "pairs.jsonl"),
      Array.from({ length: 8 }, (_, i) => pair(i))
    )
    const out = join(dir, "out")
    const args = ["--steps", "20", "--learning-rate", "0.02", "--schedule", "constant", "--warmup", "0"]
    const { status, stderr } = await train("dpo", "--model", tiny, "--data", data, "--out", out, ...args)
    assert.strictEqual(status, 0, stderr)
    const steps = lines(join(out, "metrics.jsonl"))
    assert.closeTo(steps[0]!["loss"] as number, Math.LN2, 1e-6)
    assert.closeTo(steps[0]!["rewards_margin"] as number, 0, 1e-5)
    assert.isAbove(steps.at(-1)!["rewards_margin"] as number, 0.5)
    assert.strictEqual(steps.at(-1)!["accuracy"], 1)
  })

  it("are rejected where they are the same, empty or mislabelled", async () => {
    const dir = workplace()
    const data = jsonl(join(dir, "pairs.jsonl"), [
      pair(0),
      { chosen_input_ids: [5, 6], rejected_input_ids: [5, 6] },
      { chosen_input_ids: [5, 6], rejected_input_ids: [] },
      { ...pair(1), probability: 1.5 },
      { ...pair(1), margin: "much" },
      { chosen: "a", rejected: "a" },
      { ...pair(2), probability: 0.5 },
      { ...pair(3), margin: 0.7 },
      { prompt_ids: [4, 5], chosen_ids: [6, 2], rejected_ids: [7, 2] }
    ])
    const out = join(dir, "out")
    const { status, stderr } = await train("reward", "--model", tiny, "--data", data, "--out", out)
    assert.strictEqual(status, 0, stderr)
    const reasons = lines(join(out, "rejected.jsonl")).map(({ line, reason }) => `${line}: ${reason}`)
    assert.strictEqual(reasons.length, 5)
    assert.include(reasons[0], "2: chosen and rejected are the same")
    assert.include(reasons[1], "3: one of the completions is empty")
    assert.include(reasons[2], "4: `probability` is not between 0 and 1")
    assert.include(reasons[3], "5: `margin` is not a finite number")
    assert.include(reasons[4], "6: ")
  })

  it("are rejected by a policy where one has no token that could be predicted", async () => {
    const dir = workplace()
    const data = jsonl(join(dir, "pairs.jsonl"), [
      { chosen_input_ids: [5], rejected_input_ids: [6, 7] },
      { chosen_input_ids: [5, 6], rejected_input_ids: [7] },
      { prompt_input_ids: [4], chosen_input_ids: [5], rejected_input_ids: [6] },
      { chosen_input_ids: [5, 6], rejected_input_ids: [5, 7] }
    ])
    const made = async (kind: string) => {
      const out = join(dir, kind)
      const { status, stderr } = await train(kind, "--model", tiny, "--data", data, "--out", out)
      assert.strictEqual(status, 0, stderr)
      return existsSync(join(out, "rejected.jsonl")) ? lines(join(out, "rejected.jsonl")) : []
    }
    const reasons = (await made("dpo")).map(({ line, reason }) => `${line}: ${reason}`)
    assert.strictEqual(reasons.length, 2)
    assert.include(reasons[0], "1: chosen is a single token with nothing before it")
    assert.include(reasons[1], "2: rejected is a single token with nothing before it")
    // A reward model reads whole sequences, of one token, too.
    assert.deepStrictEqual(await made("reward"), [])
  })

  it.each([
    ["--beta has to be above 0, and is 0", "--beta=0"],
    ["--label-smoothing has to be from 0 to below 0.5, and is 0.5", "--label-smoothing=0.5"]
  ])("are not learnt with a strange setting: %s", async (said, flag) => {
    const out = join(workplace(), "out")
    const { status, stderr } = await train("dpo", "--model", tiny, "--data", "nowhere", "--out", out, flag)
    assert.strictEqual(status, 2)
    assert.include(stderr, said)
    assert.isFalse(existsSync(out))
  })

  it("of another model's reward adapter are refused", async () => {
    const dir = workplace()
    mkdirSync(join(dir, "empty"))
    const data = jsonl(join(dir, "pairs.jsonl"), [pair(0)])
    const out = join(dir, "out")
    const result = await train("dpo", "--model", tiny, "--data", data, "--out", out, "--adapter", join(dir, "empty"))
    assert.strictEqual(result.status, 2)
    assert.isFalse(existsSync(out))
  })
})
