/**
 * Mistakes that other pipelines for AI feedback made, each with a test that would catch it here.
 *
 * Those of the models (loss masks, stop tokens, score heads, resuming, test splits) are tested beside the engine and the
 * recipes.
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Result, Stream } from "effect"
import { DecisionModel } from "effect/ai"
import { FetchHttpClient } from "effect/http"
import * as fc from "fast-check"
import { Trl } from "../src/data/index.ts"
import {
  Critique,
  Preference,
  PolicyUpdate,
  Response,
  Revision,
  Reward,
  Rollout,
  Sample,
  Stage,
  Transcript
} from "../src/index.ts"
import { OnnxDecisionModel } from "../src/providers/onnx/index.ts"
import {
  Budget,
  Estimate,
  OpenAiClient,
  OpenAiDecisionModel,
  OpenAiLanguageModel
} from "../src/providers/openai-compatible/index.ts"
import { MockDecisionModel, MockLanguageModel, MockPolicy, MockRewardModel } from "../src/testing/index.ts"
import * as FakeServer from "./providers/http/FakeServer.ts"
import { answer, constitution, prompt } from "./stages/Fixture.ts"

const prompts = (n: number) => Array.from({ length: n }, (_, i) => Sample.prompt(`Question ${i}`))

const sink = () => {
  const rejected: Array<Stage.Rejected> = []
  return { rejected, to: (sample: Stage.Rejected) => Effect.sync(() => void rejected.push(sample)) }
}

const pair = Sample.comparison(answer("Talk to them.", 0), answer("Play the drums.", 1))
const exchanged = Sample.comparison(pair.second, pair.first)

describe("mistake 1: labels that are not un-swapped after the answers were shown in another order", () => {
  it.effect("exchanging the answers exchanges the label, whatever the judge says", () =>
    Effect.gen(function* () {
      const share = fc.double({ min: 0, max: 1, noNaN: true })
      for (const [straight, swapped] of fc.sample(fc.tuple(share, share), { seed: 1, numRuns: 50 })) {
        const judge = MockDecisionModel.make(({ a }) => (a.includes("Talk") ? straight : swapped))
        const label = (comparison: Sample.Comparison) =>
          Preference.one(comparison).pipe(
            Effect.map(({ probability }) => probability),
            Effect.provide([judge.layer, constitution])
          )
        assert.closeTo((yield* label(pair)) + (yield* label(exchanged)), 1, 1e-12)
      }
    })
  )

  it.effect("a label that is not un-swapped would be the same for both", () =>
    Effect.gen(function* () {
      // A judge that certainly prefers talking: (A) in one order, (B) in the other.
      const judge = MockDecisionModel.make(({ a }) => (a.includes("Talk") ? 1 : 0))
      const provided = Effect.provide([judge.layer, constitution])
      assert.strictEqual((yield* Preference.one(pair).pipe(provided)).probability, 1)
      assert.strictEqual((yield* Preference.one(exchanged).pipe(provided)).probability, 0)
      const asA = judge.calls.map(({ a }) => (a.includes("Talk") ? 1 : 0))
      // What the mistake makes of both comparisons: nothing but a tie.
      assert.deepStrictEqual([(asA[0]! + asA[1]!) / 2, (asA[2]! + asA[3]!) / 2], [0.5, 0.5])
    })
  )
})

describe("mistake 6: failed calls that shift rows or leave nulls", () => {
  it.effect("every row keeps its prompt, and every failed sample is one rejection with its reason", () =>
    Effect.gen(function* () {
      const { rejected, to } = sink()
      const question = (context: unknown) => /Question \d+/.exec(String(context))![0]
      const model = MockLanguageModel.make(
        ({ id, context }) => `${id.split("/").at(-2)} to ${question(context)}`.replace(/^0 to/, "answer to"),
        { failOn: (n) => n % 7 === 0 }
      )
      const all = prompts(100)
      const revisions = yield* Stream.fromIterable(all).pipe(
        Response.stage({ concurrency: 8 }).pipe(
          Stage.compose(Critique.stage({ concurrency: 8 })),
          Stage.compose(Revision.stage({ concurrency: 8 })),
          Stage.rejectTo(to)
        ),
        Stream.runCollect,
        Effect.provide([model.layer, constitution])
      )
      assert.isAbove(rejected.length, 20)
      for (const { critique, text } of revisions) {
        const asked = critique.response.prompt.text
        assert.deepStrictEqual(
          [critique.response.text, critique.text, text],
          [`answer to ${asked}`, `critique to ${asked}`, `revision to ${asked}`]
        )
      }
      // Nothing is lost, nothing is there twice, and the order is that of the prompts.
      const promptOf = ({ sample }: Stage.Rejected) => question(JSON.stringify(sample))
      const done = revisions.map(({ critique }) => critique.response.prompt.text)
      const texts = all.map(({ text }) => text)
      assert.sameMembers([...done, ...rejected.map(promptOf)], texts)
      assert.deepStrictEqual(
        done,
        texts.filter((text) => done.includes(text))
      )
      for (const { reason } of rejected) assert.include(reason.message, "scripted to fail")
    })
  )
})

describe("mistake 7: equal ratings that give chosen == rejected", () => {
  it.effect("equal answers are rejected, and equal ratings have no chosen answer", () =>
    Effect.gen(function* () {
      const { rejected, to } = sink()
      const same = Sample.comparison(answer("Talk.", 0), answer(" Talk. ", 1))
      const [tie, ...rest] = yield* Stream.make(same, pair).pipe(
        Preference.stage({ rejectTo: to }),
        Stream.runCollect,
        Effect.provide([MockDecisionModel.make(0.5).layer, constitution])
      )
      assert.deepStrictEqual(
        rejected.map(({ reason }) => reason.message),
        ["both answers are the same text"]
      )
      assert.strictEqual(rest.length, 0)
      // A soft label like any other, marked; a row of `chosen` and `rejected` is not made of it.
      assert.deepStrictEqual([tie!.probability, tie!.tie], [0.5, true])
      assert.strictEqual(Sample.chosen(tie!), undefined)
      assert.isTrue(Result.isFailure(Trl.preference("standard")(tie!)))
    })
  )
})

describe("mistake 8: a last partial batch that is dropped, a tie that picks a random pair", () => {
  it.effect("what is left at the end is a batch, too", () =>
    Effect.gen(function* () {
      const policy = MockPolicy.make({ sample: ({ id }) => `answer ${id}` })
      const learning = { epochs: 1, minibatchSize: 4, microTokens: 64, learningRate: 1, valueLearningRate: 1 }
      const rest = { warmupIterations: 0, floor: 0, klCoefficient: 0, clip: 0.2, valueClip: 0.2, valueCoefficient: 1 }
      const last = { gamma: 1, lambda: 1, maxGradNorm: 1, stateDir: "state", seed: 0, iteration: 0, iterations: 3 }
      yield* Stream.fromIterable(prompts(10)).pipe(
        Rollout.stage({ iteration: 0 }),
        Reward.stage(),
        PolicyUpdate.stage({ batchSize: 4, ...learning, ...rest, ...last }),
        Stream.runDrain,
        Effect.provide([policy.layer, MockRewardModel.make().layer])
      )
      assert.deepStrictEqual(
        policy.updates.map(({ rollouts }) => rollouts.length),
        [4, 4, 2]
      )
    })
  )

  it.effect("a tie trains the reward model as a half, and nothing else", () =>
    Effect.gen(function* () {
      const tie = yield* Preference.one(pair).pipe(Effect.provide([MockDecisionModel.make(0.5).layer, constitution]))
      const { first, second, probability } = Transcript.preferenceExample(Transcript.humanAssistant, tie)
      assert.deepStrictEqual([first, second, probability], [" Talk to them.", " Play the drums.", 0.5])
      assert.deepStrictEqual(Trl.unpairedPreference("standard")(tie), [])
    })
  )
})

describe("mistake 9: text that is cut at the first colon", () => {
  it.effect("answers, critiques and revisions keep their colons and end at the stop texts", () =>
    Effect.gen(function* () {
      const text = "Three things: first: listen. Then:\n- talk: calmly\n\nNote: be kind."
      // A model that goes on with the transcript, and a provider that does not cut it.
      const model = MockLanguageModel.make(` ${text}\n\nHuman: And then?`)
      for (const transcript of [Transcript.humanAssistant, Transcript.plain]) {
        const ending = transcript.name === "plain" ? "\n\nPrompt: And then?" : "\n\nHuman: And then?"
        const wordy = MockLanguageModel.make(` ${text}${ending}`)
        const revisions = yield* Stream.make(prompt).pipe(
          Response.stage(),
          Critique.stage(),
          Revision.stage(),
          Stream.runCollect,
          Effect.provide([wordy.layer, constitution]),
          Effect.provideService(Transcript.Transcript, transcript)
        )
        const [{ critique, text: revised } = assert.fail()] = revisions
        assert.deepStrictEqual([critique.response.text, critique.text, revised], [text, text, text])
      }
      const pairs = yield* Stream.make(prompt).pipe(
        Response.stage({ samples: 2 }),
        Stream.runCollect,
        Effect.provide(model.layer)
      )
      assert.deepStrictEqual(
        pairs.map((response) => response.text),
        [text, text]
      )
    })
  )

  it.effect("an answer that cannot be used is a failure of its own, never an empty row", () =>
    Effect.gen(function* () {
      const error = yield* Response.one(prompt).pipe(
        Effect.provide(MockLanguageModel.make("\n\nHuman: And then?").layer),
        Effect.flip
      )
      assert.strictEqual(error._tag, "UnusableAnswer")
    })
  )
})

describe("mistake 12: judge calls one after the other", () => {
  it.effect("as many are under way as the stage may have, in both orders", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      let waiting = 0
      // The gate opens when sixteen calls wait at it: calls one after the other would wait for ever.
      const judge = Layer.effect(
        DecisionModel.DecisionModel,
        DecisionModel.make({
          decide: Effect.fnUntraced(function* () {
            if (++waiting === 16) yield* Deferred.succeed(gate, undefined)
            yield* Deferred.await(gate)
            const answers = { choice: { _tag: "Classify", label: "A", probabilities: { A: 0.7, B: 0.3 } } as const }
            return { answers, usage: { inputTokens: undefined, outputTokens: undefined } }
          })
        })
      )
      const pairs = prompts(8).map((to) => Sample.comparison(answer("a", 0, to), answer("b", 1, to)))
      const preferences = yield* Stream.fromIterable(pairs).pipe(
        Preference.stage({ concurrency: 8 }),
        Stream.runCollect,
        Effect.provide([judge, constitution])
      )
      assert.strictEqual(preferences.length, 8)
      assert.strictEqual(waiting, 16)
    })
  )
})

describe("mistake 13: log-probabilities that are dropped, or mean something else with each provider", () => {
  /** A server that lists these tokens where the choice begins; none where `top` is undefined. */
  const server = (top: Readonly<Record<string, number>> | undefined) =>
    FakeServer.start(
      FakeServer.json({
        model: "fake",
        choices: [
          {
            text: "A",
            finish_reason: "length",
            logprobs: top === undefined ? null : { tokens: ["A"], token_logprobs: [-1], top_logprobs: [top] }
          }
        ],
        usage: { prompt_tokens: 10, completion_tokens: 1 }
      })
    )
  const hosted = (url: string) =>
    OpenAiDecisionModel.layer().pipe(
      Layer.provide(OpenAiClient.layer({ baseUrl: url, model: "fake", retry: { times: 0 } })),
      Layer.provide(FetchHttpClient.layer)
    )
  const local = (logprobs: ReadonlyArray<number>) =>
    OnnxDecisionModel.fromPolicy(MockPolicy.make({ choose: () => logprobs }).service)
  const label = (judge: Layer.Layer<DecisionModel.DecisionModel>) =>
    Preference.one(pair, { orders: "first" }).pipe(
      Effect.map(({ probability }) => probability),
      Effect.provide([judge, constitution])
    )

  it.effect("the same log-probabilities are the same soft label, from a local model and from a server", () =>
    Effect.gen(function* () {
      const a = Math.log(0.06)
      const b = Math.log(0.02)
      const { url } = yield* server({ A: a, B: b, The: -0.1 })
      // The local model scores the whole options, whose brackets are as probable in both.
      const brackets = -3.5
      const onnx = yield* label(local([a + brackets, b + brackets]))
      assert.closeTo(onnx, 0.75, 1e-12)
      assert.closeTo(yield* label(hosted(url)), onnx, 1e-12)
    })
  )

  it.effect("an option that the server does not list is as good as impossible, within what its list leaves out", () =>
    Effect.gen(function* () {
      const a = Math.log(0.6)
      const least = -9
      const { url } = yield* server({ A: a, The: least })
      const hostedLabel = yield* label(hosted(url))
      assert.strictEqual(hostedLabel, 1)
      // The option is at most as probable as the last one listed.
      const onnx = yield* label(local([a, least]))
      assert.closeTo(hostedLabel, onnx, Math.exp(least) / Math.exp(a))
    })
  )

  it.effect("no log-probabilities, or none of an option, are a failure and no made-up label", () =>
    Effect.gen(function* () {
      const none = yield* server(undefined)
      const without = yield* label(hosted(none.url)).pipe(Effect.flip)
      assert.include(without.message, "no log-probabilities")
      const other = yield* server({ The: -0.1, I: -2 })
      const unlisted = yield* label(hosted(other.url)).pipe(Effect.flip)
      assert.include(unlisted.message, "no option")
    })
  )
})

describe("mistake 14: no estimate of the cost, and no stop when it is spent", () => {
  const pipeline = (n: number) =>
    Stream.fromIterable(prompts(n)).pipe(
      Response.stage({ concurrency: 1, maxTokens: 100 }),
      Critique.stage({ concurrency: 1, maxTokens: 100 }),
      Revision.stage({ concurrency: 1, maxTokens: 100 })
    )

  it.effect("a program is estimated call by call before it is run", () =>
    Effect.gen(function* () {
      const rows = yield* Estimate.of(Stream.runDrain(pipeline(10)), { answerTokens: 50 }).pipe(
        Effect.provide(constitution)
      )
      assert.deepStrictEqual(
        rows.map(({ stage, calls, tokens }) => [stage, calls, tokens.output]),
        [
          ["response", 10, 500],
          ["critique", 10, 500],
          ["revision", 10, 500]
        ]
      )
    })
  )

  it.effect("a spent budget ends it cleanly: what is done is kept, and nothing is rejected for it", () =>
    Effect.gen(function* () {
      const { url, asked } = yield* FakeServer.start(
        FakeServer.json({
          model: "fake",
          choices: [{ text: " An answer.", finish_reason: "stop", logprobs: null }],
          usage: { prompt_tokens: 60, completion_tokens: 40 }
        })
      )
      const models = OpenAiLanguageModel.layer.pipe(
        Layer.provide(OpenAiClient.layer({ baseUrl: url, model: "fake" })),
        Layer.provide(FetchHttpClient.layer)
      )
      const { rejected, to } = sink()
      const kept: Array<Sample.Revision> = []
      const exit = yield* pipeline(100).pipe(
        Stream.runForEach((revision) => Effect.sync(() => kept.push(revision))),
        Effect.provideService(Stage.Rejects, to),
        Budget.guard,
        Effect.provide([models, constitution]),
        Effect.provide(Budget.layer({ tokens: 1000 })),
        Effect.exit
      )
      assert.include(String(exit), "BudgetExceeded")
      assert.isTrue(Exit.isFailure(exit))
      assert.isAtLeast(kept.length, 1)
      assert.isBelow(kept.length, 4)
      assert.isAtMost(asked.length, 10)
      assert.deepStrictEqual(rejected, [])
    })
  )
})
