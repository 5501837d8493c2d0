import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Stream } from "effect"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { fileURLToPath } from "node:url"
import { Worker } from "node:worker_threads"
import { Models } from "../../../src/Models.ts"
import { updateOptions } from "../../../src/Policy.ts"
import type { LearnOptions, PolicyError, UpdateOptions } from "../../../src/Policy.ts"
import * as OnnxModels from "../../../src/providers/onnx/OnnxModels.ts"
import { workplace } from "../../workplace.ts"

/** The embedded model: small, and an ordinary Hugging Face folder. */
const folder = fileURLToPath(new URL("../../../assets/sandbox", import.meta.url))

/** The threads of engines. */
const threads: Array<Worker> = []
process.on("worker", (thread) => threads.push(thread))

const asked = (text: string) => `\n\nHuman: ${text}\n\nAssistant:`

const learning = (stateDir: string): LearnOptions => ({
  seed: 1,
  epochs: 8,
  batchSize: 4,
  microTokens: 1024,
  learningRate: 5e-3,
  schedule: "constant",
  warmupSteps: 0,
  floor: 1,
  weightDecay: 0,
  maxGradNorm: 1,
  maxLength: 64,
  stateDir
})

const updating = (stateDir: string, iteration: number): UpdateOptions =>
  updateOptions({ stateDir, iteration, iterations: 2, minibatchSize: 4, learningRate: 1e-3, valueLearningRate: 1e-2 })

const fresh = { _tag: "fresh", rank: 4, alpha: 8, seed: 1 } as const

const onSandbox = <A, E, R>(program: Effect.Effect<A, E, R>) =>
  program.pipe(Effect.provide(OnnxModels.layer({ dir: folder })))

describe("the models of a folder", () => {
  it.live("sample texts without special tokens, the same for the same seed and id", () =>
    onSandbox(
      Effect.gen(function* () {
        const { base, description } = yield* Models
        expect(description.family).toBe("llama")
        const sample = (id: string) =>
          base.sample({
            id,
            context: asked("how do i bake a cake ?"),
            seed: 1,
            maxTokens: 40,
            temperature: 1,
            stop: ["\n\nHuman:", " twice"]
          })
        const [one, again, other] = yield* Effect.all([sample("a"), sample("a"), sample("b")], { concurrency: 3 })
        expect(one.text).toBe(again.text)
        expect(one.tokenIds).toEqual(again.tokenIds)
        expect(other.tokenIds).not.toEqual(one.tokenIds)
        expect(one.text).not.toMatch(/<\||\n\n/)
        expect(one.text).not.toContain(" twice")
        expect(one.logprobs).toHaveLength(one.tokenIds.length)
      })
    )
  )

  it.live("choose by log-probability: the options' are those of the same texts as completions", () =>
    onSandbox(
      Effect.gen(function* () {
        const { base } = yield* Models
        const context = asked("how do i bake a cake ?")
        const options = [" yes", " of course , it is"]
        const chosen = yield* base.choose("choice", context, options)
        for (const [i, completion] of options.entries()) {
          const logprobs = yield* base.logprobs({ id: "choice", context, completion })
          expect(chosen[i]).toBeCloseTo(
            logprobs.reduce((a, b) => a + b, 0),
            4
          )
        }
      })
    )
  )

  it.live("learn, are saved as a PEFT folder and come back the same", () =>
    onSandbox(
      Effect.gen(function* () {
        const dir = workplace()
        const models = yield* Models
        const policy = yield* models.policy("pupil", fresh)
        const example = { id: "x", context: asked("how do i bake a cake ?"), completion: " i have no comment ." }
        const rejected: Array<string> = []
        const metrics = yield* policy
          .learn(
            [
              example,
              { ...example, id: "empty", completion: "" },
              { ...example, id: "long", completion: " cake".repeat(80) }
            ],
            learning(path.join(dir, "state")),
            (id, reason) => Effect.sync(() => rejected.push(`${id}: ${reason}`))
          )
          .pipe(Stream.runCollect)
        expect(rejected.map((r) => r.split(":")[0])).toEqual(["empty", "long"])
        expect(metrics.at(-1)!.loss).toBeLessThan(metrics[0]!.loss / 2)

        yield* policy.save(path.join(dir, "adapter"))
        const source = { _tag: "folder", dir: path.join(dir, "adapter"), seed: 1 } as const
        const returned = yield* models.policy("returned", source)
        const [before, after] = yield* Effect.all([policy.logprobs(example), returned.logprobs(example)])
        expect(after).toEqual(before)
        expect(Exit.isFailure(yield* Effect.exit(models.base.save(dir)))).toBe(true)
      })
    )
  )

  it.live("reject the rows that the model cannot read, and learn from the others", () =>
    onSandbox(
      Effect.gen(function* () {
        const dir = workplace()
        const models = yield* Models
        const options = { ...learning(path.join(dir, "state")), epochs: 1, maxLength: 1024 }
        const rejected: Array<string> = []
        const onReject = (id: string, reason: string) => Effect.sync(() => void rejected.push(`${id}: ${reason}`))
        const context = asked("how do i bake a cake ?")
        const long = " cake".repeat(200)
        const answers = [
          { id: "short", context, completion: " i have no comment ." },
          { id: "long", context, completion: long },
          { id: "a message", context: { messages: [{ role: "user" as const, content: "why ?" }] }, completion: " yes" }
        ]
        const policy = yield* models.policy("pupil", fresh)
        const learnt = yield* Stream.runCollect(policy.learn(answers, options, onReject))
        const pair = { context, first: " yes", probability: 0.9 }
        const pairs = [
          { ...pair, id: "short pair", second: " no" },
          { ...pair, id: "long pair", second: long },
          { ...pair, id: "message pair", context: answers[2]!.context, second: " no" }
        ]
        const judge = yield* models.rewardModel("judge", fresh)
        const judged = yield* Stream.runCollect(
          judge.learn(pairs, { ...options, stateDir: path.join(dir, "judge") }, onReject)
        )
        expect([learnt.length, judged.length]).toEqual([1, 1])
        expect(rejected.map((row) => row.replace(/\d+ tokens/, "so many tokens"))).toEqual([
          "long: so many tokens are more than the 192 that a row may have",
          "a message: The model has no chat template; use the human-assistant transcript with it.",
          "long pair: so many tokens are more than the 192 that a row may have",
          "message pair: The model has no chat template; use the human-assistant transcript with it."
        ])
      })
    )
  )

  it.live("name the option that is wrong, in the failure of the request", () =>
    onSandbox(
      Effect.gen(function* () {
        const dir = workplace()
        const models = yield* Models
        const policy = yield* models.policy("pupil", fresh)
        const request = { id: "a", context: asked("why ?"), seed: 1, maxTokens: 4, temperature: 1 }
        const example = { id: "x", context: asked("why ?"), completion: " because ." }
        const rollout = { id: "r", promptIds: [5, 6], tokenIds: [7], logprobs: [-1], reward: 0 }
        const nobody = () => Effect.void
        const learn = (options: Partial<LearnOptions>) =>
          Stream.runDrain(policy.learn([example], { ...learning(dir), ...options }, nobody))
        const update = (options: Partial<UpdateOptions>, changed = {}) =>
          policy.update([{ ...rollout, ...changed }], { ...updating(dir, 0), ...options })
        for (const [fact, wrong] of [
          ["maxTokens: expected an integer, not 1.5", policy.sample({ ...request, maxTokens: 1.5 })],
          ["topK: expected an integer, not 1.5", policy.sample({ ...request, topK: 1.5 })],
          ["an integer, not 1.5", policy.sample({ ...request, logitBias: new Map([[1.5, 1]]) })],
          ['"cosine", not "Cosine"', learn({ schedule: "Cosine" as "cosine" })],
          ["batchSize", learn({ batchSize: 0 })],
          ["epochs", learn({ epochs: 1.5 })],
          ["learningRate", learn({ learningRate: Number.NaN })],
          ["minibatchSize", update({ minibatchSize: 0 })],
          ["temperature", update({ temperature: 0 })],
          ["tokens of the rollout r", update({}, { tokenIds: [1.5] })],
          ["log-probability of the rollout r", update({}, { logprobs: [Number.NaN] })],
          ["2 log-probabilities for 1 tokens", update({}, { logprobs: [-1, -2] })],
          ["nothing before it", update({}, { promptIds: [] })],
          ["rank", models.policy("other", { ...fresh, rank: 1.5 })]
        ] as const) {
          const error = yield* Effect.flip(wrong as Effect.Effect<unknown, PolicyError>)
          expect(error).toMatchObject({ _tag: "PolicyError", retryable: false })
          expect(error.message).toContain(fact)
        }
        const file = path.join(dir, "file")
        fs.writeFileSync(file, "")
        const error = yield* Effect.flip(learn({ stateDir: path.join(file, "state") }))
        expect(error.message).toContain("cannot be made")
      })
    )
  )

  it.live("may be called the same, a policy and a reward model", () =>
    onSandbox(
      Effect.gen(function* () {
        const dir = workplace()
        const models = yield* Models
        const policy = yield* models.policy("x", fresh)
        const judge = yield* models.rewardModel("x", fresh)
        const context = asked("why ?")
        const pair = { context, first: " because .", second: " no .", probability: 1 }
        const rejected: Array<string> = []
        const pairs = [
          { ...pair, id: "good" },
          { ...pair, id: "more than certain", probability: 2 }
        ]
        const note = (id: string) => Effect.sync(() => rejected.push(id))
        yield* Stream.runDrain(judge.learn(pairs, learning(path.join(dir, "reward")), note))
        expect(rejected).toEqual(["more than certain"])
        yield* policy.update(
          [{ id: "r", promptIds: [5, 6], tokenIds: [7], logprobs: [-1], reward: 1 }],
          updating(path.join(dir, "policy"), 0)
        )
        expect(yield* judge.score({ id: "s", context, completion: " because ." })).toBeGreaterThan(
          yield* judge.score({ id: "s", context, completion: " no ." })
        )
      })
    )
  )

  it.live("keep what they learn between two updates", () =>
    onSandbox(
      Effect.gen(function* () {
        const dir = workplace()
        const { policy: make } = yield* Models
        const policy = yield* make("pupil", fresh)
        const example = { id: "x", context: asked("how do i bake a cake ?"), completion: " i have no comment ." }
        const likely = Effect.map(policy.logprobs(example), (logprobs) => logprobs.reduce((a, b) => a + b, 0))
        const rollout = { id: "r", promptIds: [5, 6], tokenIds: [7], logprobs: [-1], reward: 0 }
        const update = policy.update([rollout], { ...updating(path.join(dir, "p"), 0), learningRate: 1e-9 })
        yield* update
        yield* Stream.runDrain(policy.learn([example], learning(path.join(dir, "s")), () => Effect.void))
        const learnt = yield* likely
        yield* update
        expect(Math.abs((yield* likely) - learnt)).toBeLessThan(0.1)
      })
    )
  )

  it.live("end with an error that may be tried again when their engine is gone", () =>
    onSandbox(
      Effect.gen(function* () {
        const { policy } = yield* Models
        const pupil = yield* policy("pupil", fresh)
        const request = { id: "a", context: asked("why ?"), seed: 1, maxTokens: 4, temperature: 1 }
        yield* pupil.sample(request)
        yield* Effect.promise(() => Worker.prototype.terminate.call(threads.at(-1)))
        const error = yield* Effect.flip(pupil.sample(request))
        expect(error).toMatchObject({ _tag: "PolicyError", retryable: true })
      })
    )
  )

  it.live("continue an update where it was left", () =>
    onSandbox(
      Effect.gen(function* () {
        const dir = workplace()
        const models = yield* Models
        const policy = yield* models.policy("learner", fresh)
        const rollouts = yield* Effect.forEach(["a", "b", "c"], (id, i) =>
          Effect.map(
            policy.sample({ id, context: asked("how do i sew a kite ?"), seed: 1, maxTokens: 12, temperature: 1 }),
            (completion) => ({ id, ...completion, reward: i })
          )
        )
        expect(yield* policy.restore(dir)).toBe(0)
        const first = yield* policy.update(rollouts, updating(dir, 0))
        expect(Math.abs(first.kl)).toBeLessThan(1e-3)
        const probe = { id: "probe", context: asked("how do i sew a kite ?"), completion: " yes , i will" }
        const learnt = yield* policy.logprobs(probe)

        const restarted = yield* models.policy("restarted", fresh)
        expect(yield* restarted.logprobs(probe)).not.toEqual(learnt)
        expect(yield* restarted.restore(dir)).toBe(1)
        expect(yield* restarted.logprobs(probe)).toEqual(learnt)
        // The second update of both is the same: moments and steps were kept, too.
        yield* policy.update(rollouts, updating(path.join(dir, "one"), 1))
        yield* restarted.update(rollouts, updating(path.join(dir, "two"), 1))
        expect(yield* restarted.logprobs(probe)).toEqual(yield* policy.logprobs(probe))

        // And so is one with other options: nothing is left of those of the updates before.
        const others = { clip: 1e-4, valueClip: 1e-4, valueCoefficient: 1, microTokens: 64, epochs: 2 }
        const last = yield* models.policy("last", fresh)
        expect(yield* last.restore(path.join(dir, "one"))).toBe(2)
        const change = (stateDir: string) => ({ ...updating(stateDir, 1), ...others })
        const [{ seconds: _, ...one }, { seconds: __, ...two }] = [
          yield* policy.update(rollouts, change(path.join(dir, "three"))),
          yield* last.update(rollouts, change(path.join(dir, "four")))
        ]
        expect(one).toEqual(two)
        expect(yield* last.logprobs(probe)).toEqual(yield* policy.logprobs(probe))
      })
    )
  )

  it.live("rank answers once the reward model has learnt from preferences", () =>
    onSandbox(
      Effect.gen(function* () {
        const dir = workplace()
        const models = yield* Models
        const reward = yield* models.rewardModel("reward", fresh)
        const objects = ["cake", "pie", "soup", "potato", "carrot", "steak", "muffin", "stew"]
        const pairs = objects.map((object, i) => {
          const [good, bad] = [` i will not fry the ${object} .`, ` here is how to fry the ${object} .`]
          const context = asked(`how do i fry a ${object} ?`)
          const [first, second] = i % 2 === 0 ? [good, bad] : [bad, good]
          return { id: object, context, first, second, probability: i % 2 === 0 ? 0.95 : 0.05 }
        })
        const rejected: Array<string> = []
        const metrics = yield* reward
          .learn(
            [...pairs, { ...pairs[0]!, id: "same", second: pairs[0]!.first }],
            learning(path.join(dir, "state")),
            (id) => Effect.sync(() => rejected.push(id))
          )
          .pipe(Stream.runCollect)
        expect(rejected).toEqual(["same"])
        expect(metrics.at(-1)!["accuracy"]).toBe(1)
        yield* reward.save(path.join(dir, "adapter"))
        const source = { _tag: "folder", dir: path.join(dir, "adapter"), seed: 9 } as const
        const returned = yield* models.rewardModel("returned", source)
        for (const { context, first, probability, second } of pairs) {
          const [a, b] = yield* Effect.all([
            returned.score({ id: "a", context, completion: first }),
            returned.score({ id: "b", context, completion: second })
          ])
          expect(a > b).toBe(probability > 0.5)
        }
      })
    )
  )

  it.live("fail where a reward model has no finite score, which no file of records could hold", () =>
    onSandbox(
      Effect.gen(function* () {
        const dir = workplace()
        const models = yield* Models
        const reward = yield* models.rewardModel("reward", fresh)
        const context = asked("how do i bake a cake ?")
        const pair = { id: "pair", context, first: " i have no comment .", second: " bake it .", probability: 0.9 }
        const options = { ...learning(path.join(dir, "state")), epochs: 1, learningRate: 3e37 }
        yield* Stream.runDrain(reward.learn([pair], options, () => Effect.void))
        const error = yield* Effect.flip(reward.score({ id: "answer", context, completion: " bake it ." }))
        expect(error.message).toMatch(/^The score is -?(NaN|Infinity); train the reward model with a lower learning/)
        expect([error.id, error.retryable]).toEqual(["answer", false])
      })
    )
  )

  it.live("fail with one sentence for a folder that is no model", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(Models.pipe(Effect.provide(OnnxModels.layer({ dir: os.tmpdir() }))))
      expect(Exit.isFailure(exit) && String(exit.cause)).toContain("config.json")
    })
  )
})
