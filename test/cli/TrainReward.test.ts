import { assert, describe, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { jsonl, lines, main, tiny, tokenRows, train, workplace } from "./TrainFixture.ts"

const charter = (...args: ReadonlyArray<string>) =>
  spawnSync(process.execPath, [main, ...args], { cwd: workplace(), encoding: "utf8" })

/** A whole reward model, and the pairs that it learnt. */
const trained = async () => {
  const dir = workplace()
  const pairs = Array.from({ length: 8 }, (_, i) => ({
    prompt_input_ids: [10 + i, 11, 12],
    chosen_input_ids: [20, 30 + i, 2],
    rejected_input_ids: [21, 40 + i, 2]
  }))
  const data = jsonl(join(dir, "pairs.jsonl"), pairs)
  const out = join(dir, "reward")
  const args = ["--full", "--steps", "12", "--learning-rate", "0.003", "--eval", data]
  const { status, stderr } = await train("reward", "--model", tiny, "--data", data, "--out", out, ...args)
  assert.strictEqual(status, 0, stderr)
  return { dir, pairs, data, out }
}

describe("a reward model that was trained as a whole", () => {
  it("gives charter score the rewards that its last evaluation had", { timeout: 60_000 }, async () => {
    const { dir, out, pairs } = await trained()
    const sides = pairs.flatMap((pair) => [
      { input_ids: [...pair.prompt_input_ids, ...pair.chosen_input_ids] },
      { input_ids: [...pair.prompt_input_ids, ...pair.rejected_input_ids] }
    ])
    const [rows, scores] = [jsonl(join(dir, "rows.jsonl"), sides), join(dir, "scores.jsonl")]
    const { status, stderr } = charter("score", "--model", out, "--in", rows, "--out", scores)
    assert.strictEqual(status, 0, stderr)
    const rewards = lines(scores).map(({ reward }) => reward as number)
    const losses = pairs.map((_, i) => Math.log1p(Math.exp(rewards[2 * i + 1]! - rewards[2 * i]!)))
    const { last } = JSON.parse(readFileSync(join(out, "summary.json"), "utf8"))
    assert.closeTo(losses.reduce((a, b) => a + b) / losses.length, last.eval_loss, 1e-4)
  })

  it("rewards a policy of the same tokens, and a training can be started again", async () => {
    const { dir, out } = await trained()
    const prompts = jsonl(join(dir, "prompts.jsonl"), [{ input_ids: [10, 11, 12] }, { input_ids: [11, 11, 12] }])
    const policy = join(dir, "policy")
    const args = [
      ...["grpo", "--model", tiny, "--reward-model", out, "--prompts", prompts, "--out", policy],
      ...["--max-tokens", "3", "--batch-size", "8", "--samples", "4", "--steps", "2"]
    ]
    const first = await train(...args)
    assert.strictEqual(first.status, 0, first.stderr)
    assert.include((await train(...args)).stdout, "nothing was changed")
    // Its scores are those of charter score, which reads them on the end token.
    const rollouts = lines(join(policy, "rollouts.jsonl")) as ReadonlyArray<Record<string, any>>
    const whole = rollouts.map(({ finish, promptIds, tokenIds }) => ({
      input_ids: [...promptIds, ...tokenIds, ...(finish === "stop" ? [] : [2])]
    }))
    const scores = join(dir, "scores.jsonl")
    assert.strictEqual(
      charter("score", "--model", out, "--in", jsonl(join(dir, "rows.jsonl"), whole), "--out", scores).status,
      0
    )
    lines(scores).forEach(({ reward }, i) => assert.closeTo(reward as number, rollouts[i]!["score"] as number, 1e-4))
  })

  it("rewards an answer on the end token that it has learnt, whichever of several was drawn", async () => {
    const { dir, out } = await trained()
    const model = join(dir, "model")
    mkdirSync(model)
    for (const name of ["config.json", "model.safetensors"]) copyFileSync(join(tiny, name), join(model, name))
    const ends = [2, ...Array.from({ length: 150 }, (_, i) => 20 + 2 * i)]
    writeFileSync(join(model, "generation_config.json"), JSON.stringify({ eos_token_id: ends }))
    const prompts = jsonl(join(dir, "prompts.jsonl"), [{ input_ids: [10, 11, 12] }])
    const policy = join(dir, "policy")
    const { status, stderr } = await train(
      ...["grpo", "--model", model, "--reward-model", out, "--prompts", prompts, "--out", policy],
      ...["--max-tokens", "3", "--batch-size", "8", "--samples", "4", "--steps", "1"]
    )
    assert.strictEqual(status, 0, stderr)
    const rollouts = lines(join(policy, "rollouts.jsonl")) as ReadonlyArray<Record<string, any>>
    assert.isTrue(rollouts.some(({ finish, tokenIds }) => finish === "stop" && tokenIds.at(-1) !== 2))
    const whole = rollouts.map(({ finish, promptIds, tokenIds }) => ({
      input_ids: [...promptIds, ...(finish === "stop" ? tokenIds.slice(0, -1) : tokenIds), 2]
    }))
    const scores = join(dir, "scores.jsonl")
    charter("score", "--model", out, "--in", jsonl(join(dir, "rows.jsonl"), whole), "--out", scores)
    lines(scores).forEach(({ reward }, i) => assert.closeTo(reward as number, rollouts[i]!["score"] as number, 1e-4))
  })

  it("rewards no policy that calls other tokens by the same numbers", async () => {
    const { dir, out } = await trained()
    const model = join(dir, "model")
    mkdirSync(model)
    for (const name of ["config.json", "model.safetensors"]) copyFileSync(join(tiny, name), join(model, name))
    const tokenizer = readFileSync(join(dirname(tiny), "tokenizers/unigram/tokenizer.json"), "utf8")
    writeFileSync(join(model, "tokenizer.json"), tokenizer)
    const other = JSON.parse(tokenizer)
    const { vocab } = other.model
    ;[vocab[40], vocab[41]] = [vocab[41], vocab[40]]
    writeFileSync(join(out, "tokenizer.json"), JSON.stringify(other))
    const prompts = jsonl(join(dir, "prompts.jsonl"), [{ input_ids: [10, 11, 12] }])
    const policy = ["--model", model, "--prompts", prompts, "--max-tokens", "3", "--batch-size", "8", "--steps", "1"]
    const run = (kind: string) => train(kind, ...policy, "--reward-model", out, "--out", join(dir, kind))
    const refused = await run("grpo")
    assert.strictEqual(refused.status, 2)
    assert.include(
      refused.stderr,
      `has another tokenizer than the policy, which writes ${JSON.stringify(vocab[41][0])};`
    )
    // More tokens than the policy writes are no matter.
    const { added_tokens, ...same } = JSON.parse(tokenizer)
    const more = [...added_tokens, { id: 319, content: "<more>" }]
    writeFileSync(join(out, "tokenizer.json"), JSON.stringify({ ...same, added_tokens: more }))
    assert.strictEqual((await run("rloo")).status, 0)
  })

  it("is trained further as a whole, from the loss that it ended with", async () => {
    const { data, dir, out } = await trained()
    const [more, args] = [join(dir, "more"), ["--model", out, "--data", data]]
    const { status, stderr } = await train("reward", ...args, "--out", more, "--full", "--steps", "2")
    assert.strictEqual(status, 0, stderr)
    const { last } = JSON.parse(readFileSync(join(out, "summary.json"), "utf8"))
    assert.closeTo(lines(join(more, "metrics.jsonl"))[0]!["loss"] as number, last.eval_loss, 1e-6)
    const rows = jsonl(join(dir, "rows.jsonl"), [{ input_ids: [10, 11, 12, 20, 30, 2] }])
    assert.strictEqual(charter("score", "--model", more, "--in", rows, "--out", join(dir, "s.jsonl")).status, 0)
    const adapter = await train("reward", ...args, "--out", join(dir, "adapter"))
    assert.strictEqual(adapter.status, 2)
    assert.include(adapter.stderr, "is a whole reward model; add --full to train it further")
    assert.isFalse(existsSync(join(dir, "adapter")))
  })

  it("is refused where a model has to write, and where an adapter is wanted", async () => {
    const { data, dir, out } = await trained()
    const rows = jsonl(join(dir, "rows.jsonl"), tokenRows(2))
    const generated = charter("generate", "--model", out, "--in", rows)
    assert.strictEqual(generated.status, 2)
    assert.include(generated.stderr, "is a reward model, which writes nothing; use it with charter score")
    const run = charter("run", "--model", out, "--prompts", jsonl(join(dir, "prompts.jsonl"), [{ prompt: "Why?" }]))
    assert.strictEqual(run.status, 2)
    assert.include(run.stderr, "is a reward model, which writes nothing")
    const scored = charter("score", "--model", tiny, "--adapter", out, "--in", rows)
    assert.strictEqual(scored.status, 2)
    assert.include(scored.stderr, "is a whole reward model and no adapter; give it to charter score as --model")
    const [next, model] = [join(dir, "next"), ["--model", tiny]]
    for (const more of [
      ["sft", "--model", out, "--data", rows],
      ["reward", ...model, "--data", data, "--adapter", out]
    ]) {
      const { status, stderr } = await train(...more, "--out", next)
      assert.strictEqual(status, 2)
      assert.include(stderr, "reward model")
      assert.isFalse(existsSync(next))
    }
  })
})
