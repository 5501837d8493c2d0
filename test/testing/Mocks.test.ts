import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schema, Stream } from "effect"
import { Decision, DecisionModel, LanguageModel } from "effect/ai"
import { TestClock } from "effect/testing"
import { Policy, Preference, Response, Reward, Rollout, Sample, Stage } from "../../src/index.ts"
import {
  CallLog,
  MockDecisionModel,
  MockLanguageModel,
  MockPolicy,
  MockRewardModel,
  Recording
} from "../../src/testing/index.ts"
import { answer, constitution, prompt } from "../stages/Fixture.ts"
import { workplace } from "../workplace.ts"

const prompts = (n: number) => Stream.range(1, n).pipe(Stream.map((i) => Sample.prompt(`Question ${i}`)))

describe("a scripted mock", () => {
  it.effect("answers the same, in a list, or by what it is asked", () =>
    Effect.gen(function* () {
      const texts = (model: MockLanguageModel.MockLanguageModel) =>
        prompts(2).pipe(
          Response.stage({ concurrency: 1 }),
          Stream.map(({ text }) => text),
          Stream.runCollect,
          Effect.provide(model.layer)
        )
      assert.deepStrictEqual(yield* texts(MockLanguageModel.make("yes")), ["yes", "yes"])
      assert.deepStrictEqual(yield* texts(MockLanguageModel.make(["one", "two"])), ["one", "two"])
      const echo = MockLanguageModel.make(({ context }, n) => `${n}: ${String(context).split("\n\n")[1]}`)
      assert.deepStrictEqual(yield* texts(echo), ["1: Human: Question 1", "2: Human: Question 2"])
    })
  )

  it.effect("dies when the test asks more than its list has", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make(["one"])
      const exit = yield* prompts(2).pipe(
        Response.stage({ concurrency: 1 }),
        Stream.runDrain,
        Effect.provide(model.layer),
        Effect.exit
      )
      assert.include(String(exit), "the mock has 1 answers and was called 2 times")
    })
  )

  it.effect("says why an answer ended, where the script does", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make({ text: "Half an", finish: "length" }, { model: "writer" })
      const { finish, model: name, text } = yield* Response.one(prompt).pipe(Effect.provide(model.layer))
      assert.deepStrictEqual([text, finish, name], ["Half an", "length", "writer"])
    })
  )

  it.effect("of a judge knows two labels and answers no question about others", () =>
    Effect.gen(function* () {
      const criteria = { yes: "it is", no: "it is not", perhaps: null }
      const decisions = { choice: Decision.classify({ instructions: "Is it?", criteria }) }
      const error = yield* DecisionModel.decide(Decision.make({ input: Schema.String, decisions }), { input: "" }).pipe(
        Effect.provide(MockDecisionModel.make(0.7).layer),
        Effect.flip
      )
      assert.include(error.message, '"choice" has 3 labels')
    })
  )

  it.effect("of a policy gives a log-probability for each token of a completion, without an end", () =>
    Effect.gen(function* () {
      const { service } = MockPolicy.make()
      assert.deepStrictEqual(yield* service.logprobs({ id: "a", context: "Say it:", completion: " a" }), [-1, -1])
    })
  )

  it.effect("is trained when its steps are taken, each time anew", () =>
    Effect.gen(function* () {
      const policy = MockPolicy.make()
      const rewardModel = MockRewardModel.make()
      const options = { batchSize: 1, epochs: 1 } as Policy.LearnOptions
      const steps = policy.service.learn([], options, () => Effect.void)
      const pairSteps = rewardModel.service.learn([], options, () => Effect.void)
      assert.deepStrictEqual([policy.trainings.length, rewardModel.trainings.length], [0, 0])
      yield* Effect.replicateEffect(Stream.runDrain(steps), 2)
      yield* Stream.runDrain(pairSteps)
      assert.deepStrictEqual([policy.trainings.length, rewardModel.trainings.length], [2, 1])
    })
  )

  it.effect("streams what it answers", () =>
    Effect.gen(function* () {
      const text = yield* LanguageModel.streamText({ prompt: "Hi" }).pipe(
        Stream.map((part) => (part.type === "text-delta" ? part.delta : "")),
        Stream.mkString,
        Effect.provide(MockLanguageModel.make("Hello").layer)
      )
      assert.strictEqual(text, "Hello")
    })
  )

  it.effect("takes no probability that is none", () =>
    Effect.gen(function* () {
      const pair = Sample.comparison(answer("a", 0), answer("b", 1))
      const error = yield* Preference.one(pair).pipe(
        Effect.provide([MockDecisionModel.make(1.5).layer, constitution]),
        Effect.flip
      )
      assert.include(error.message, "1.5")
    })
  )
})

describe("a failing mock", () => {
  it.effect("fails on the calls that it is told to", () =>
    Effect.gen(function* () {
      const rejected: Array<string> = []
      const model = MockLanguageModel.make("fine", { failOn: (n) => n % 3 === 0 })
      const responses = yield* prompts(7).pipe(
        Response.stage({ concurrency: 1 }).pipe(
          Stage.rejectTo(({ reason }) => Effect.sync(() => void rejected.push(reason.message)))
        ),
        Stream.runCollect,
        Effect.provide(model.layer)
      )
      assert.strictEqual(responses.length, 5)
      assert.strictEqual(rejected.length, 2)
      assert.include(rejected[0], "call 3 is scripted to fail")
    })
  )

  it.effect("is any of the models", () =>
    Effect.gen(function* () {
      const failOn = [1]
      const policy = MockPolicy.make({ failOn })
      const rollout = yield* Rollout.one(prompt, { iteration: 0 }).pipe(Effect.provide(policy.layer), Effect.flip)
      assert.include(rollout.message, "scripted to fail")
      const judge = MockDecisionModel.make(0.5, { failOn })
      const pair = Sample.comparison(answer("a", 0), answer("b", 1))
      const preference = yield* Preference.one(pair).pipe(Effect.provide([judge.layer, constitution]), Effect.flip)
      assert.include(preference.message, "scripted to fail")
      const made = yield* Rollout.one(prompt, { iteration: 0 }).pipe(Effect.provide(MockPolicy.make().layer))
      const reward = yield* Reward.one(made).pipe(Effect.provide(MockRewardModel.make({ failOn }).layer), Effect.flip)
      assert.include(reward.message, "scripted to fail")
    })
  )
})

describe("a slow mock", () => {
  it.effect("answers when the test clock says so", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make("at last", { delay: (n) => `${n} minutes` })
      const fiber = yield* Effect.forkChild(
        prompts(3).pipe(Response.stage({ concurrency: 3 }), Stream.runCollect, Effect.provide(model.layer))
      )
      // All three calls are under way before the clock moves.
      while (model.calls.length < 3) yield* Effect.yieldNow
      yield* TestClock.adjust("2 minutes")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* Fiber.join(fiber)).length, 3)
    })
  )
})

describe("CallLog", () => {
  it.effect("has the calls of several mocks in their order", () =>
    Effect.gen(function* () {
      const log = CallLog.make()
      const writer = MockLanguageModel.make(({ id }) => id, { model: "writer", log })
      const judge = MockDecisionModel.make(0.7, { log })
      yield* Stream.make(prompt).pipe(
        Response.pair(),
        Preference.stage(),
        Stream.runDrain,
        Effect.provide([writer.layer, judge.layer, constitution])
      )
      assert.deepStrictEqual(log.models, ["writer", "writer", "mock-judge", "mock-judge"])
      assert.deepStrictEqual(
        log.entries.map(({ n }) => n),
        [1, 2, 1, 2]
      )
      assert.strictEqual(log.entries[0]!.call, writer.calls[0])
    })
  )

  it.effect("is not kept where there are very many calls", () =>
    Effect.gen(function* () {
      const model = MockLanguageModel.make(["one", "two"], { forget: true })
      yield* prompts(2).pipe(Response.stage({ concurrency: 1 }), Stream.runDrain, Effect.provide(model.layer))
      assert.strictEqual(model.calls.length, 0)
    })
  )
})

describe("Recording", () => {
  const pipeline = prompts(3).pipe(Response.pair({ seed: 2 }), Preference.stage({ reasoning: true }), Stream.runCollect)

  it.effect("plays a model and a judge back from a file, call by call", () =>
    Effect.gen(function* () {
      const folder = workplace()
      const file = join(folder, "answers.jsonl")
      const real = Layer.merge(
        MockLanguageModel.make(({ id }) => `real ${id}`).layer,
        MockDecisionModel.make(({ a }) => a.length / 100).layer
      )
      const recording = Recording.make()
      const recorders = Layer.merge(MockLanguageModel.record(recording), MockDecisionModel.record(recording))
      const before = yield* pipeline.pipe(Effect.provide([recorders.pipe(Layer.provide(real)), constitution]))
      // Two answers, two thoughts and two choices for each of three prompts.
      assert.strictEqual(recording.entries.size, 18)
      yield* Recording.save(recording, file)

      const again = yield* Recording.load(file)
      const replays = Layer.merge(
        MockLanguageModel.replay(again).layer,
        MockDecisionModel.replay(again, { model: "mock-judge" }).layer
      )
      assert.deepStrictEqual(yield* pipeline.pipe(Effect.provide([replays, constitution])), before)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("keeps why an answer ended and who wrote it: the same records are made of it", () =>
    Effect.gen(function* () {
      const recording = Recording.make()
      const real = MockLanguageModel.make({ text: "Half an", finish: "length" }, { model: "real" }).layer
      const respond = Response.one(prompt)
      const before = yield* respond.pipe(Effect.provide(MockLanguageModel.record(recording).pipe(Layer.provide(real))))
      assert.deepStrictEqual([before.finish, before.model], ["length", "real"])
      assert.deepStrictEqual(yield* respond.pipe(Effect.provide(MockLanguageModel.replay(recording).layer)), before)
    })
  )

  it.effect("plays texts back that were recorded without anything else", () =>
    Effect.gen(function* () {
      const recording = Recording.make()
      const recorder = MockLanguageModel.record(recording).pipe(Layer.provide(MockLanguageModel.make("Yes.").layer))
      yield* Response.one(prompt).pipe(Effect.provide(recorder))
      const older = Recording.make(Array.from(recording.entries.values(), (entry) => ({ ...entry, answer: "Yes." })))
      const { model, text } = yield* Response.one(prompt).pipe(Effect.provide(MockLanguageModel.replay(older).layer))
      assert.deepStrictEqual([text, model], ["Yes.", "mock"])
    })
  )

  it.effect("names the line of a file that is no recorded call", () =>
    Effect.gen(function* () {
      const folder = workplace()
      const file = join(folder, "answers.jsonl")
      writeFileSync(file, '{"key":"a","id":"b","answer":"c"}\n{"key":"a"\n')
      const error = yield* Recording.load(file).pipe(Effect.flip)
      assert.strictEqual(error.message, `${file}:2: is no recorded call; record the file anew`)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("fails on a call that it does not have, and gives no other answer", () =>
    Effect.gen(function* () {
      const recording = Recording.make()
      const real = MockLanguageModel.make("an answer").layer
      const recorder = MockLanguageModel.record(recording).pipe(Layer.provide(real))
      yield* Response.one(prompt, { seed: 1 }).pipe(Effect.provide(recorder))
      const replay = Effect.provide(MockLanguageModel.replay(recording).layer)
      assert.strictEqual((yield* Response.one(prompt, { seed: 1 }).pipe(replay)).text, "an answer")
      const error = yield* Response.one(prompt, { seed: 2 }).pipe(replay, Effect.flip)
      assert.include(error.message, "record it anew")
    })
  )

  it.effect("plays policies and reward models back, too", () =>
    Effect.gen(function* () {
      const recording = Recording.make()
      const real = Layer.merge(
        MockPolicy.make({ sample: ({ id }) => id, choose: () => [-1, -2] }).layer,
        MockRewardModel.make({ score: ({ completion }) => completion.length }).layer
      )
      const recorders = Layer.merge(MockPolicy.record(recording), MockRewardModel.record(recording))
      const program = Effect.gen(function* () {
        const rollout = yield* Rollout.one(prompt, { iteration: 1 })
        const policy = yield* Policy.Policy
        return [yield* Reward.one(rollout), yield* policy.choose("x", "context", [" (A)", " (B)"])] as const
      })
      const before = yield* program.pipe(Effect.provide(recorders.pipe(Layer.provide(real))))
      const replays = Layer.merge(
        MockPolicy.replay(recording, { model: "mock-policy" }).layer,
        MockRewardModel.replay(recording, { model: "mock-reward-model" }).layer
      )
      assert.deepStrictEqual(yield* program.pipe(Effect.provide(replays)), before)
    })
  )

  it.effect("plays back from a file that an option is impossible", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "choices.jsonl")
      const recording = Recording.make()
      const real = MockPolicy.make({ choose: () => [-3, -Infinity] }).layer
      const choose = Effect.flatMap(Policy.Policy, (policy) => policy.choose("x", "context", [" (A)", " (B)"]))
      yield* choose.pipe(Effect.provide(MockPolicy.record(recording).pipe(Layer.provide(real))))
      yield* Recording.save(recording, file)
      const replay = MockPolicy.replay(yield* Recording.load(file))
      assert.deepStrictEqual(yield* choose.pipe(Effect.provide(replay.layer)), [-3, -Infinity])
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
