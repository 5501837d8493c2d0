import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { cpSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Lora from "../../src/model/Lora.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"
import * as Random from "../../src/Random.ts"
import * as Golden from "../engine/golden.ts"
import { contents, jsonl, killed, lines, tiny, train, workplace } from "./TrainFixture.ts"

const kinds = ["ppo", "grpo", "rloo"] as const

/** A place with prompts and a reward model that likes small token ids. */
const prepared = async () => {
  const dir = workplace()
  const random = Random.make(1, "pairs")
  const pairs = Array.from({ length: 24 }, () => {
    const word = (from: number) => from + random.int(150)
    return {
      prompt_input_ids: [5, 6, 7],
      chosen_input_ids: [word(3), word(3), 2],
      rejected_input_ids: [word(165), word(165), 2]
    }
  })
  const data = jsonl(join(dir, "pairs.jsonl"), pairs)
  const reward = join(dir, "reward")
  const made = await train(
    ...["reward", "--model", tiny, "--data", data, "--out", reward, "--steps", "15", "--learning-rate", "0.02"]
  )
  assert.strictEqual(made.status, 0, made.stderr)
  const prompts = jsonl(
    join(dir, "prompts.jsonl"),
    Array.from({ length: 5 }, (_, i) => ({ input_ids: [5, 6, 7 + i] }))
  )
  return { dir, reward, prompts }
}

type Prepared = Awaited<ReturnType<typeof prepared>>

const command = (kind: string, { prompts, reward }: Prepared, out: string, ...more: ReadonlyArray<string>) => [
  ...[kind, "--model", tiny, "--reward-model", reward, "--prompts", prompts, "--out", out, "--max-tokens", "4"],
  ...["--steps", "6", "--batch-size", "16", "--samples", "4", "--learning-rate", "0.01", "--update-epochs", "2"],
  ...["--minibatch-size", "8", ...more]
]

describe("charter train ppo, grpo and rloo", () => {
  for (const kind of kinds) {
    it(`${kind} samples, scores and learns, and says what it did under the field's names`, async () => {
      const place = await prepared()
      const out = join(place.dir, "out")
      const { status, stderr } = await train(...command(kind, place, out))
      assert.strictEqual(status, 0, stderr)
      const steps = lines(join(out, "metrics.jsonl"))
      assert.lengthOf(steps, 6)
      const names = ["reward", "kl", "kl_k3", "loss", "policy_loss", "approx_kl", "clipfrac", "grad_norm", "truncated"]
      for (const name of names)
        assert.isTrue(
          steps.every((line) => Number.isFinite(line[name])),
          name
        )
      // At first the policy is its reference.
      assert.closeTo(steps[0]!["kl"] as number, 0, 1e-4)
      assert.isTrue(steps.every((line) => (line["kl_k3"] as number) >= 0))
      const rollouts = lines(join(out, "rollouts.jsonl"))
      assert.lengthOf(rollouts, 6 * 16)
      for (const rollout of rollouts) {
        const { finish, reward, score } = rollout as { finish: string; reward: number; score: number }
        // An answer without an end is worth one less.
        assert.closeTo(reward, finish === "length" ? score - 1 : score, 1e-9)
      }
      assert.isTrue(existsSync(join(out, "adapter_config.json")))
      const again = await train(...command(kind, place, out))
      assert.include(again.stdout, "is finished (6 updates); nothing was changed")
    })
  }

  /** The command with other values of its flags. */
  const changed = (args: ReadonlyArray<string>, values: Readonly<Record<string, string>>) =>
    Object.entries(values).reduce((all, [flag, value]) => all.with(all.indexOf(flag) + 1, value), [...args])

  // Ratios, and what is learnt, would be of another policy than the one that was sampled.
  it("learns at the temperature of its answers", async () => {
    const place = await prepared()
    for (const kind of kinds) {
      const out = join(place.dir, kind)
      const still = changed(command(kind, place, out), { "--learning-rate": "1e-30" })
      const { status, stderr } = await train(...still, "--temperature", "0.4")
      assert.strictEqual(status, 0, stderr)
      const [first] = lines(join(out, "metrics.jsonl"))
      assert.closeTo(first!["approx_kl"] as number, 0, 1e-6, kind)
      const logprobs = lines(join(out, "rollouts.jsonl")).flatMap(({ logprobs, step }) => (step === 1 ? logprobs : []))
      const mean = (logprobs as ReadonlyArray<number>).reduce((a, b) => a + b, 0) / (logprobs as []).length
      // A cooler policy is surer of itself than the model is.
      assert.isBelow(first!["entropy"] as number, -mean - 0.1, kind)
    }
  })

  it("ends where three minibatches in a row have no finite loss, with the state before them", async () => {
    const place = await prepared()
    const out = join(place.dir, "out")
    const { status, stderr } = await train(...changed(command("ppo", place, out), { "--learning-rate": "1e37" }))
    assert.strictEqual(status, 1)
    assert.include(stderr, "Step 1: 3 minibatches in a row have no finite loss and gradient; lower --learning-rate")
    assert.isFalse(existsSync(join(out, "summary.json")))
    const { tensors } = await Effect.runPromise(Safetensors.read(join(out, "state", "state.safetensors")))
    const moments = await Effect.runPromise(Safetensors.load(tensors.get("m")!))
    assert.isTrue(moments.every((x) => x === 0))
  })

  it.each(kinds)("%s ends where the policy computes no numbers any more, with what was finished", async (kind) => {
    const place = await prepared()
    const out = join(place.dir, "out")
    const one = { "--learning-rate": "1e37", "--update-epochs": "1", "--minibatch-size": "16" }
    const args = changed(command(kind, place, out), one)
    const { status, stderr } = await train(...args)
    assert.strictEqual(status, 1)
    assert.match(stderr, /^Step 2: nothing can be learnt: the policy's log-probability of a token .* is NaN/m)
    assert.include(stderr, "lower --learning-rate, or look at the samples and at --reward-model, with another --out")
    assert.isFalse(existsSync(join(out, "summary.json")))
    assert.isTrue(existsSync(join(out, "state", "state.safetensors")))
    // Answers without numbers are not written: they would come back as null.
    assert.isTrue(lines(join(out, "rollouts.jsonl")).every((rollout) => rollout["step"] === 1))
    // Nor does the same command go on as if nothing had been.
    assert.strictEqual((await train(...args)).status, 1)
  })

  it("bounds scores by --reward-clip, before what an answer without an end is worth less", async () => {
    const place = await prepared()
    const out = join(place.dir, "out")
    const args = changed(command("grpo", place, out, "--reward-clip", "0.5"), { "--steps": "1" })
    const { status, stderr } = await train(...args)
    assert.strictEqual(status, 0, stderr)
    const rollouts = lines(join(out, "rollouts.jsonl")) as ReadonlyArray<{
      finish: string
      reward: number
      score: number
    }>
    assert.isTrue(rollouts.some(({ score }) => Math.abs(score) > 0.5))
    for (const { finish, reward, score } of rollouts) {
      const bounded = Math.max(-0.5, Math.min(0.5, score))
      assert.closeTo(reward, finish === "length" ? bounded - 1 : bounded, 1e-9)
    }
  })

  it("says at its end that the lines of its updates are gone, where they were deleted", async () => {
    const place = await prepared()
    const out = join(place.dir, "out")
    const args = changed(command("grpo", place, out), { "--steps": "1" })
    await train(...args)
    for (const file of ["summary.json", "metrics.jsonl"]) rmSync(join(out, file))
    const { stdout } = await train(...args)
    assert.include(stdout, "Trained grpo for 1 update; the lines of its updates are gone.")
  })

  it("rejects prompts that are longer than --max-length", async () => {
    const place = await prepared()
    const out = join(place.dir, "out")
    jsonl(place.prompts, [{ input_ids: [5, 6, 7] }, { input_ids: [5, 6, 7, 8, 9] }])
    const { status, stderr } = await train(...command("grpo", place, out, "--max-length", "4"))
    assert.strictEqual(status, 0, stderr)
    const rejected = lines(join(out, "rejected.jsonl")).map(({ line, reason }) => [line, reason])
    assert.deepStrictEqual(rejected, [[2, "5 tokens are more than the 4 that a row may have"]])
  })

  it("rejects prompts that leave no room for an answer and the end token on which it is scored", async () => {
    const place = await prepared()
    const out = join(place.dir, "out")
    const ids = (count: number) => ({ input_ids: Array.from({ length: count }, (_, i) => 3 + i) })
    jsonl(place.prompts, [ids(251), ids(252)])
    const args = changed(command("grpo", place, out), { "--steps": "1", "--batch-size": "4" })
    const { status, stderr } = await train(...args)
    assert.strictEqual(status, 0, stderr)
    const rejected = lines(join(out, "rejected.jsonl")).map(({ line, reason }) => [line, reason])
    assert.deepStrictEqual(rejected, [[2, "252 tokens and 5 to come are more than the 256 positions of the model"]])
  })

  it("sums the gradients of as few answers together as --micro-batch says: the same step, but for its rounding", async () => {
    const place = await prepared()
    const [all, one] = await Promise.all(
      [[], ["--micro-batch", "1"]].map(async (more, i) => {
        const out = join(place.dir, `out ${i}`)
        const args = changed(command("grpo", place, out, ...more), { "--steps": "1", "--update-epochs": "1" })
        const { status, stderr } = await train(...args)
        assert.strictEqual(status, 0, stderr)
        return { line: lines(join(out, "metrics.jsonl"))[0]!, bytes: contents(out)["adapter_model.safetensors"] }
      })
    )
    assert.closeTo(one!.line["grad_norm"] as number, all!.line["grad_norm"] as number, 1e-4)
    assert.notStrictEqual(one!.bytes, all!.bytes)
  })

  it("goes on only with the same end tokens and factors of the reward model", async () => {
    const place = await prepared()
    const [out, model] = [join(place.dir, "out"), join(place.dir, "model")]
    cpSync(tiny, model, { recursive: true })
    const run = () =>
      train(...changed(command("grpo", place, out), { "--model": model, "--steps": "1", "--batch-size": "4" }))
    assert.strictEqual((await run()).status, 0)
    writeFileSync(join(model, "generation_config.json"), JSON.stringify({ eos_token_id: [2, 7] }))
    assert.include((await run()).stderr, "ends is 2 there and 2,7 now")
    writeFileSync(join(model, "generation_config.json"), JSON.stringify({ eos_token_id: 2 }))
    const config = join(place.reward, "adapter_config.json")
    writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, "utf8")), lora_alpha: 8 }))
    assert.match((await run()).stderr, /scales\.rewardModel is \w+ there and \w+ now/)
  })

  it("refuses a reward model that is none, and groups that do not divide", async () => {
    const place = await prepared()
    const out = join(place.dir, "out")
    const policy = { ...place, reward: join(tiny, "adapter") }
    assert.include((await train(...command("ppo", policy, out))).stderr, "is no reward model")
    assert.include((await train(...command("grpo", place, out, "--samples", "1"))).stderr, "--samples")
    const odd = await train(...command("rloo", place, out, "--batch-size", "18"))
    assert.strictEqual(odd.status, 2)
    assert.isFalse(existsSync(out))
  })
})

describe("charter train ppo refuses in a sentence, with exit code 2 and nothing written", () => {
  const cases: ReadonlyArray<readonly [said: string, args: ReadonlyArray<string>]> = [
    // Minibatches of no answers would be taken forever.
    ["--minibatch-size has to be 1 or more, and is 0", ["--minibatch-size", "0"]],
    ["--minibatch-size has to be 1 or more, and is -1", ["--minibatch-size=-1"]],
    ["--update-epochs has to be 1 or more, and is 0", ["--update-epochs", "0"]],
    ["--samples has to be 1 or more, and is 0", ["--samples", "0"]],
    ["--max-tokens has to be 1 or more, and is 0", ["--max-tokens", "0"]],
    ["--clip has to be above 0, and is 0", ["--clip", "0"]],
    ["--gamma has to be from 0 to 1, and is 1.5", ["--gamma", "1.5"]],
    ["--lambda has to be from 0 to 1, and is -0.1", ["--lambda=-0.1"]],
    ["--value-learning-rate has to be above 0, and is 0", ["--value-learning-rate", "0"]],
    ["--value-clip has to be above 0, and is 0", ["--value-clip", "0"]],
    ["--value-coefficient has to be 0 or more, and is -1", ["--value-coefficient=-1"]],
    ["--kl-coefficient has to be 0 or more, and is -1", ["--kl-coefficient=-1"]],
    ["--kl-target has to be above 0, and is 0", ["--kl-target", "0"]],
    ["which stays 0 with --kl-coefficient 0", ["--kl-target", "6", "--kl-coefficient", "0"]],
    ["--reward-clip has to be above 0, and is 0", ["--reward-clip", "0"]],
    ["--missing-stop-penalty is 1e+300, which 32 bits cannot hold", ["--missing-stop-penalty", "1e300"]],
    ["--temperature is 1e-50, which 32 bits cannot hold", ["--temperature", "1e-50"]],
    ["--temperature is 1e+300, which 32 bits cannot hold", ["--temperature", "1e300"]],
    ["--learning-rate is 1e+39, which 32 bits cannot hold", ["--learning-rate", "1e39"]],
    [
      "--value-learning-rate (ten times --learning-rate) is 1e+39, which 32 bits cannot hold",
      ["--learning-rate", "1e38"]
    ]
  ]
  it.each(cases)("%s", async (said, args) => {
    const out = join(workplace(), "out")
    const needed = ["--model", tiny, "--reward-model", "nowhere", "--prompts", "nowhere", "--out", out]
    const { status, stderr } = await train("ppo", ...needed, ...args)
    assert.strictEqual(status, 2, stderr)
    assert.include(stderr, said)
    assert.isFalse(existsSync(out))
  })
})

describe("mistakes that other pipelines made", () => {
  it(
    "5: PPO cannot resume, or drops the answers under way: killed ones end with the same bytes",
    {
      timeout: 120_000
    },
    async () => {
      const place = await prepared()
      const random = Random.make(3, "kills")
      for (const kind of kinds) {
        const whole = join(place.dir, `whole ${kind}`)
        const args = (out: string) => command(kind, place, out, "--kl-coefficient", "0.02", "--save-every", "2")
        assert.strictEqual((await train(...args(whole))).status, 0)
        const out = join(place.dir, `killed ${kind}`)
        for (let i = 0; i < 2 && !existsSync(join(out, "summary.json")); i++) {
          const metrics = join(out, "metrics.jsonl")
          const file = () => statSync(metrics, { throwIfNoEntry: false })?.mtimeMs
          const before = file()
          await killed(() => file() !== before, 100 + 900 * random.next(), ...args(out))
        }
        assert.strictEqual((await train(...args(out))).status, 0)
        assert.deepStrictEqual(contents(out), contents(whole), kind)
      }
    }
  )

  it("5: answers of an update that was cut off are used again, not sampled anew", async () => {
    const place = await prepared()
    const [short, long] = ["short", "long"].map((name) => join(place.dir, name)) as [string, string]
    assert.strictEqual((await train(...command("grpo", place, long))).status, 0)
    // A folder as a process leaves it that was killed after it had written the answers of its first update.
    assert.strictEqual((await train(...command("grpo", place, short))).status, 0)
    for (const name of ["state", "summary.json", "metrics.jsonl"]) rmSync(join(short, name), { recursive: true })
    const rollouts = readFileSync(join(short, "rollouts.jsonl"), "utf8")
    writeFileSync(join(short, "rollouts.jsonl"), `${rollouts.split("\n").slice(0, 16).join("\n")}\n{"step": 2, "to`)
    assert.strictEqual((await train(...command("grpo", place, short))).status, 0)
    assert.deepStrictEqual(contents(short), contents(long))
  })

  it("5: a damaged line among the answers ends in a stack trace: it is named", async () => {
    const place = await prepared()
    const out = join(place.dir, "out")
    assert.strictEqual((await train(...command("grpo", place, out))).status, 0)
    const file = join(out, "rollouts.jsonl")
    const rollouts = readFileSync(file, "utf8").trimEnd().split("\n")
    for (const damage of ['{"step": 2, "to', '{"step": 7, "id": "x"}', '{"step": 7, "logprobs": [null]}']) {
      rmSync(join(out, "summary.json"), { force: true })
      writeFileSync(file, `${rollouts.with(20, damage).join("\n")}\n`)
      const { status, stderr } = await train(...command("grpo", place, out))
      assert.strictEqual(status, 2)
      assert.strictEqual(stderr, `Line 21 of ${file} is damaged; delete that line to go on without it.`)
    }
  })

  it.effect("4: the reward head is lost or random after saving: it scores as it was trained", () =>
    Effect.gen(function* () {
      const place = yield* Effect.promise(prepared)
      const { checkpoint } = yield* Golden.load
      const saved = yield* Lora.read(place.reward, checkpoint.config)
      assert.strictEqual(saved.taskType, "SEQ_CLS")
      const untrained = Lora.scoreHead(checkpoint.config, Random.hash(1, "adapter"))
      assert.isAbove(Golden.distance(saved.tensors.get("score")!.data, untrained.data), 1e-3)
      // What is trained on from it begins with the accuracy at which it ended.
      const data = join(place.dir, "pairs.jsonl")
      const out = join(place.dir, "more")
      const { status } = yield* Effect.promise(() =>
        train(
          ...["reward", "--model", tiny, "--adapter", place.reward, "--data", data, "--out", out],
          ...["--steps", "1", "--batch-size", "24", "--learning-rate", "0.000001"]
        )
      )
      assert.strictEqual(status, 0)
      assert.strictEqual(lines(join(out, "metrics.jsonl"))[0]!["accuracy"], 1)
    })
  )
})
