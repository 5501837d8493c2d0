import { readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Cause, ConfigProvider, Effect, Exit, Result } from "effect"
import * as Hosted from "../../src/cli/Hosted.ts"
import type * as Plan from "../../src/cli/Plan.ts"
import { execute } from "../../src/cli/run.ts"
import * as Constitution from "../../src/Constitution.ts"
import { rewardOnly } from "../../src/evaluation/Evaluator.ts"
import { Models } from "../../src/Models.ts"
import * as Budget from "../../src/providers/http/Budget.ts"
import * as PromptSets from "../../src/recipes/PromptSets.ts"
import type { Settings } from "../../src/recipes/Settings.ts"
import * as FakeServer from "../providers/http/FakeServer.ts"
import { workplace } from "../workplace.ts"
import * as Fixture from "../recipes/Fixture.ts"
import * as World from "../recipes/World.ts"

const secret = "sk-a-secret-that-nobody-may-see"

const usage = { prompt_tokens: 90, completion_tokens: 10 }

/** Judges for (A) by logprobs at `odds`, votes for (A), and writes critiques and revisions. */
const server =
  (odds = 3): FakeServer.Answer =>
  (response, asked, n) => {
    const judging = asked.body.logprobs !== undefined
    const total = Math.log(1 + odds)
    const logprobs = {
      tokens: ["A"],
      token_logprobs: [Math.log(odds) - total],
      top_logprobs: [{ A: Math.log(odds) - total, B: -total }]
    }
    const text = judging ? "A" : ` Kinder words, ${asked.body.seed}.`
    const choice = { text, finish_reason: "stop", ...(judging ? { logprobs } : {}) }
    FakeServer.json({ id: `call-${n}`, model: "fake-1", choices: [choice], usage })(response, asked, n)
  }

const openai = (model: string, url: string): Hosted.Spec => ({ kind: "openai", model, url })

const plan = Effect.fnUntraced(function* (hosted: Partial<Hosted.Hosted>, settings: Settings = Fixture.settings) {
  return {
    name: "mock",
    model: "mock",
    constitution: yield* Constitution.shipped,
    constitutionSource: "Charter",
    promptsSource: "test",
    settings,
    sets: PromptSets.fromPrompts(Fixture.prompts, settings),
    rejects: [],
    evaluator: rewardOnly,
    hosted: { judge: undefined, critic: undefined, ...hosted }
  } satisfies Plan.Plan
})

const keys = ConfigProvider.layer(ConfigProvider.fromUnknown({ OPENAI_API_KEY: secret, ANTHROPIC_API_KEY: secret }))

/** Runs a plan over mocks and what it names; gives what was said as well. */
const run = Effect.fnUntraced(function* (plan: Plan.Plan, dir: string, models = Fixture.models()) {
  const said: Array<string> = []
  const error = console.error
  console.error = (line: string) => void said.push(line)
  const exit = yield* execute(plan, dir).pipe(
    Effect.provide(Hosted.layer(plan.hosted, plan.settings)),
    Effect.provide(keys),
    Effect.provideService(Models, models.service),
    Effect.exit
  )
  console.error = error
  return { exit, said, models }
})

const summaryOf = <A, E>(exit: Exit.Exit<A, E>): A =>
  Exit.isSuccess(exit) ? exit.value : assert.fail(Cause.pretty(exit.cause))

const errorOf = (exit: Exit.Exit<unknown, unknown>): Error =>
  Exit.isFailure(exit) ? (Cause.squash(exit.cause) as Error) : assert.fail("it succeeded")

const files = (dir: string): ReadonlyArray<string> =>
  readdirSync(dir, { recursive: true, encoding: "utf8" }).filter((file) => statSync(join(dir, file)).isFile())

const rows = (dir: string, file: string): ReadonlyArray<any> =>
  readFileSync(join(dir, file), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))

const withBudget = (tokens: number): Settings => ({
  ...Fixture.settings,
  budget: { ...Fixture.settings.budget, tokens }
})

describe("a run with hosted models", () => {
  it.live("is judged by the one that was named, with its accounts in the folder and its key nowhere", () =>
    Effect.gen(function* () {
      const judge = yield* FakeServer.start(server())
      const dir = workplace()
      const { exit, said, models } = yield* run(yield* plan({ judge: openai("fake", judge.url) }), dir)
      const summary = summaryOf(exit)

      const labels = rows(dir, "preferences/preferences.jsonl")
      assert.isAbove(labels.length, 0)
      assert.isTrue(labels.every(({ model }) => model === "fake-1"))
      // It prefers what is shown first, by three to one: the orders cancel out.
      assert.isTrue(labels.every(({ probability }) => Math.abs(probability - 0.5) < 1e-9))
      assert.strictEqual(models.base.choices.length, 0)

      const calls = (summary.hosted ?? []).reduce((sum, row) => sum + row.calls, 0)
      assert.strictEqual(calls, 2 * labels.length)
      assert.strictEqual(judge.asked.length, calls)
      assert.isTrue(summary.hosted?.every(({ model, stage }) => model === "fake" && stage === "preference"))
      assert.deepStrictEqual(
        new Set(summary.hosted?.map(({ principle }) => principle)),
        new Set(labels.map(({ principle }) => principle))
      )
      assert.strictEqual(
        (summary.hosted ?? []).reduce((sum, row) => sum + row.input_tokens, 0),
        90 * calls
      )
      // The forecast knows the calls, and is about the most that they take.
      assert.match(said.join("\n"), new RegExp(`^Hosted models: at most about ${calls} calls, `))

      const manifest = JSON.parse(readFileSync(join(dir, "manifest.json"), "utf8"))
      assert.strictEqual(manifest.feedback.judge, "openai:fake")
      assert.strictEqual(judge.asked[0]!.headers.authorization, `Bearer ${secret}`)
      assert.include(files(dir), "answers.jsonl")
      for (const file of files(dir)) assert.notInclude(readFileSync(join(dir, file), "utf8"), secret, file)
      assert.notInclude(said.join("\n"), secret)

      // Once more: nothing is asked, and nothing changes.
      const again = yield* run(yield* plan({ judge: openai("fake", judge.url) }), dir)
      assert.deepStrictEqual(summaryOf(again.exit), summary)
      assert.strictEqual(judge.asked.length, calls)
      assert.include(again.said.join("\n"), "so far")
    })
  )

  it.live("does again what another judge changes, and nothing else; a server that moved is the same judge", () =>
    Effect.gen(function* () {
      const first = yield* FakeServer.start(server())
      const dir = workplace()
      summaryOf((yield* run(yield* plan({ judge: openai("one", first.url) }), dir)).exit)
      const kept = ["supervised/revisions.jsonl", "supervised/metrics.jsonl", "preferences/pairs.jsonl"]
      const before = kept.map((file) => readFileSync(join(dir, file), "utf8"))

      const moved = yield* FakeServer.start(server())
      summaryOf((yield* run(yield* plan({ judge: openai("one", moved.url) }), dir)).exit)
      assert.strictEqual(moved.asked.length, 0)

      const second = yield* FakeServer.start(server())
      const { exit, said, models } = yield* run(yield* plan({ judge: openai("two", second.url) }), dir)
      const summary = summaryOf(exit)
      assert.include(
        said.join("\n"),
        "the judge is openai:one there and openai:two now: revise and supervised are kept"
      )
      assert.strictEqual(second.asked.length, first.asked.length)
      assert.deepStrictEqual(
        kept.map((file) => readFileSync(join(dir, file), "utf8")),
        before
      )
      assert.isFalse([...models.policies.keys()].includes("supervised") && models.base.samples.length > 0)
      // Both were paid for.
      assert.deepStrictEqual([...new Set(summary.hosted?.map(({ model }) => model))], ["one", "two"])
    })
  )

  it.live("stops before the call that could exceed the budget, and goes on with a larger one", () =>
    Effect.gen(function* () {
      const judge = yield* FakeServer.start(server())
      const hosted = { judge: openai("fake", judge.url) }
      const dir = workplace()
      const stopped = yield* run(yield* plan(hosted, withBudget(1000)), dir)
      assert.instanceOf(errorOf(stopped.exit), Budget.BudgetExceeded)
      assert.include(errorOf(stopped.exit).message, "the budget of 1000 (tokens)")
      assert.include(stopped.said.join("\n"), "the budget may end before")
      const paid = judge.asked.length
      assert.isAbove(paid, 0)
      assert.isAtMost(paid * 100, 1000)
      const rejected = join(dir, "rejected.jsonl")
      assert.strictEqual(statSync(rejected, { throwIfNoEntry: false })?.size ?? 0, 0)

      // The budget is that of the run, not of a start: the same one is still spent.
      const same = yield* run(yield* plan(hosted, withBudget(1000)), dir)
      assert.instanceOf(errorOf(same.exit), Budget.BudgetExceeded)
      assert.isAtMost(judge.asked.length * 100, 1000)

      const summary = summaryOf((yield* run(yield* plan(hosted, withBudget(1_000_000)), dir)).exit)
      const bodies = new Set(judge.asked.map(({ body }) => JSON.stringify(body)))
      assert.strictEqual(bodies.size, judge.asked.length)
      assert.strictEqual(
        summary.hosted?.reduce((sum, row) => sum + row.calls, 0),
        judge.asked.length
      )

      // The folder is that of a run that was not stopped, but for the order of the answers and the ids in them, and the
      // budget that it began with.
      const whole = workplace()
      summaryOf((yield* run(yield* plan(hosted, withBudget(1_000_000)), whole)).exit)
      const comparable = (folder: string) =>
        [...World.files(folder)].filter(([file]) => !["answers.jsonl", "manifest.json"].includes(file))
      assert.deepStrictEqual(comparable(dir), comparable(whole))
    })
  )

  it.live("stops at a wrong model, a wrong key and a judge without probabilities, and rejects no sample for them", () =>
    Effect.gen(function* () {
      const failures: ReadonlyArray<readonly [answer: FakeServer.Answer, said: string]> = [
        [FakeServer.json({ error: { message: "no such model" } }, 404), 'has a model "fake"'],
        [FakeServer.json({ error: { message: `wrong: ${secret}` } }, 401), "check the key"],
        [FakeServer.json({ error: { message: "no temperature 0", code: "unsupported_value" } }, 400), "temperature"],
        [FakeServer.json({ choices: [{ text: "A", finish_reason: "stop" }], usage }), "--set hosted.votes=8"]
      ]
      for (const [answer, words] of failures) {
        const judge = yield* FakeServer.start(answer)
        const dir = workplace()
        const { exit } = yield* run(yield* plan({ judge: openai("fake", judge.url) }), dir)
        assert.include(errorOf(exit).message, words)
        assert.notInclude(errorOf(exit).message, secret)
        assert.isAtMost(judge.asked.length, 2 * Fixture.settings.concurrency)
        for (const file of files(dir)) assert.notInclude(readFileSync(join(dir, file), "utf8"), secret, file)
        assert.notInclude(files(dir).join(), "rejected.jsonl: ")
        assert.strictEqual(statSync(join(dir, "rejected.jsonl"), { throwIfNoEntry: false })?.size ?? 0, 0)

        // With a server in order it goes on.
        const right = yield* FakeServer.start(server())
        summaryOf((yield* run(yield* plan({ judge: openai("fake", right.url) }), dir)).exit)
      }
    })
  )

  it.live("says that nothing has a label where every pair was refused for itself", () =>
    Effect.gen(function* () {
      const judge = yield* FakeServer.start(FakeServer.json({ error: { message: "too long" } }, 400))
      const { exit } = yield* run(yield* plan({ judge: openai("fake", judge.url) }), workplace())
      assert.include(errorOf(exit).message, "no pair of answers has a label")
    })
  )

  it.live("thinks before it judges, under several principles, as the forecast said", () =>
    Effect.gen(function* () {
      const judge = yield* FakeServer.start(server())
      const preferences = { ...Fixture.settings.preferences, principles: 2, reasoning: true }
      const settings = { ...Fixture.settings, preferences }
      const dir = workplace()
      const { exit, said } = yield* run(yield* plan({ judge: openai("fake", judge.url) }, settings), dir)
      summaryOf(exit)
      const labels = rows(dir, "preferences/preferences.jsonl")
      // Two principles in two orders, a thought and a choice in each.
      assert.strictEqual(judge.asked.length, labels.length * 2 * 2 * 2)
      assert.include(said.join("\n"), `at most about ${judge.asked.length} calls`)
    })
  )

  it.live("is judged by votes where the settings say so, which is another judge", () =>
    Effect.gen(function* () {
      const judge = yield* FakeServer.start((response, asked, n) =>
        FakeServer.json({
          model: "fake-1",
          choices: [{ text: asked.body.seed % 3 === 0 ? "(B)" : "(A)", finish_reason: "stop" }],
          usage
        })(response, asked, n)
      )
      const settings = { ...Fixture.settings, hosted: { ...Fixture.settings.hosted, votes: 3 } }
      const dir = workplace()
      const { exit } = yield* run(yield* plan({ judge: openai("fake", judge.url) }, settings), dir)
      const summary = summaryOf(exit)
      const manifest = JSON.parse(readFileSync(join(dir, "manifest.json"), "utf8"))
      assert.strictEqual(manifest.feedback.judge, "openai:fake, 3 votes")
      const labels = rows(dir, "preferences/preferences.jsonl")
      assert.strictEqual(judge.asked.length, labels.length * 2 * 3)
      assert.strictEqual(
        summary.hosted?.reduce((sum, row) => sum + row.calls, 0),
        judge.asked.length
      )
    })
  )

  it.live("is criticised and rewritten by another one", () =>
    Effect.gen(function* () {
      const critic = yield* FakeServer.start(server())
      const dir = workplace()
      const { exit, said } = yield* run(yield* plan({ critic: openai("fake", critic.url) }), dir)
      const summary = summaryOf(exit)
      const revisions = rows(dir, "supervised/revisions.jsonl")
      assert.isTrue(revisions.every(({ model, text }) => model === "fake-1" && text.startsWith("Kinder words")))
      const stages = new Map<string, number>()
      for (const { stage, calls } of summary.hosted ?? []) stages.set(stage, (stages.get(stage) ?? 0) + calls)
      assert.deepStrictEqual([...stages.keys()].toSorted(), ["critique", "revision"])
      assert.strictEqual(stages.get("critique"), rows(dir, "supervised/critiques.jsonl").length)
      assert.include(said.join("\n"), `at most about ${critic.asked.length} calls`)
      const manifest = JSON.parse(readFileSync(join(dir, "manifest.json"), "utf8"))
      assert.deepStrictEqual(manifest.feedback, { assistant: null, critic: "openai:fake", judge: null })
    })
  )
})

describe("the forecast of a run with a hosted critic", () => {
  const { supervised, evaluation } = Fixture.settings
  const cases: ReadonlyArray<readonly [why: string, settings: Partial<Settings>]> = [
    ["the training takes few of the prompts", { supervised: { ...supervised, prompts: 1 } }],
    ["benign ones are revised", { evaluation: { ...evaluation, benignRevisions: 2 } }],
    ["some are kept out", { evaluation: { ...evaluation, prompts: 4, benignRevisions: 1 } }]
  ]

  it.live.each(cases)("is what is asked, also where %s", ([, settings]) =>
    Effect.gen(function* () {
      const critic = yield* FakeServer.start(server())
      const planned = yield* plan({ critic: openai("fake", critic.url) }, { ...Fixture.settings, ...settings })
      const { exit, said } = yield* run(planned, workplace())
      summaryOf(exit)
      assert.include(said.join("\n"), `at most about ${critic.asked.length} calls`)
    })
  )
})

describe("the name of a hosted model", () => {
  it("has a kind, a model and perhaps an address", () => {
    assert.deepStrictEqual(Result.getOrThrow(Hosted.parse("--judge", "openai:gpt-4o")), {
      kind: "openai",
      model: "gpt-4o",
      url: undefined
    })
    assert.deepStrictEqual(
      Result.getOrThrow(Hosted.parse("--judge", "openai:Qwen/Qwen3:8B@http://localhost:8000/v1")),
      {
        kind: "openai",
        model: "Qwen/Qwen3:8B",
        url: "http://localhost:8000/v1"
      }
    )
    // A scheme may be in capitals.
    const loud = "HTTP://LOCALHOST:8000/v1"
    assert.strictEqual(Result.getOrThrow(Hosted.parse("--judge", `openai:m@${loud}`)).url, loud)
    for (const text of [
      "gpt-4o",
      "mistral:large",
      "openai:",
      "openai:m@http://",
      "openai:m@HTTP://",
      "openai:m@http://a:b@c/v1"
    ]) {
      assert.isTrue(Result.isFailure(Hosted.parse("--judge", text)), text)
    }
  })

  it.each([
    "localhost",
    "localhost:8000/v1",
    "LOCALHOST/v1",
    "gpu-3:8000",
    ":8000/v1",
    "127.0.0.1",
    "10.0.0.2:8000/v1",
    "[::1]:8000/v1",
    "api.example.com/v1",
    "//host/v1",
    "ftp://host/v1",
    "wss://name:word@host/v1"
  ])("has no address without http, which would be taken for a part of the name: @%s", (address) => {
    const parsed = Hosted.parse("--judge", `openai:m@${address}`)
    assert.isTrue(Result.isFailure(parsed))
    assert.strictEqual(
      Result.isFailure(parsed) && parsed.failure,
      "The address after @ in --judge is no URL; it is one such as http://localhost:8000/v1."
    )
  })

  it.each([
    "@cf/meta/llama",
    "@cf/meta/llama-3.1:8b",
    "x@20240620",
    "claude-3@20240229",
    "m@latest",
    "m@v1.5",
    "m@v1:0"
  ])("may have an @ of its own: %s", (model) => {
    assert.deepStrictEqual(Result.getOrThrow(Hosted.parse("--judge", `openai:${model}`)), {
      kind: "openai",
      model,
      url: undefined
    })
    const url = "http://localhost:8000/v1"
    assert.strictEqual(Result.getOrThrow(Hosted.parse("--judge", `openai:${model}@${url}`)).model, model)
  })
})
