import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Stream } from "effect"
import { AiError, LanguageModel } from "effect/ai"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import * as CliExit from "../../src/cli/Exit.ts"
import * as Budget from "../../src/providers/http/Budget.ts"
import { PolicyError } from "../../src/Policy.ts"
import * as Random from "../../src/Random.ts"
import * as Feedback from "../../src/recipes/Feedback.ts"
import { MockLanguageModel } from "../../src/testing/index.ts"
import { workplace } from "../workplace.ts"
import { models as mocks, prompts, runIn } from "./Fixture.ts"
import * as World from "./World.ts"

const { run, runUntil } = World

/** The row of `rejected.jsonl` that stands for a failed call. */
const rowOf = (evaluated: ReadonlySet<string>) => (call: string) => {
  const [what, model, , sampled = ""] = call.split(" ")
  const [prompt = "", index, kind, round] = (what === "sample" ? sampled : call.split(" ")[2]!).split("/")
  const dir = evaluated.has(prompt) ? "evaluation" : "supervised"
  if (what === "choose") return `preferences/preferences.jsonl ${prompt}/0/1`
  if (kind === "rollout") return `policy/rollouts.jsonl ${round}/${prompt}/${index}`
  if (model === "base" && kind === "response") return `${dir}/responses.jsonl ${prompt}/0`
  if (model === "base") return `${dir}/${kind}s.jsonl ${prompt}/0/${round}`
  if (dir === "evaluation") return `evaluation/${model}-${index}.jsonl ${prompt}/${index}`
  return `preferences/pairs.jsonl ${prompt}/0/1`
}

const whole = workplace()

describe("when one call in ten fails", () => {
  it.live("exactly those rows are rejected, and nothing else changes", () =>
    Effect.gen(function* () {
      yield* run(whole)
      const failed = new Set<string>()
      const dir = workplace()
      const fails = (call: string) => !call.startsWith("score") && Random.hash("fails", call) % 10 === 0
      yield* run(dir, {
        fails: (call) => {
          if (fails(call)) failed.add(call)
          return fails(call)
        }
      })
      const rejected = World.rows(dir, "rejected.jsonl").map(({ log, id }) => `${log} ${id}`)
      assert.isAbove(failed.size, 80)
      const evaluated = new Set(
        World.rows(whole, "evaluation/responses.jsonl").map(({ prompt }) => prompt.id as string)
      )
      assert.deepStrictEqual(rejected.toSorted(), [...new Set([...failed].map(rowOf(evaluated)))].toSorted())

      // Before anything is learnt, the others are byte by byte what they would have been.
      for (const file of ["responses", "critiques", "revisions"].map((kind) => `supervised/${kind}.jsonl`)) {
        const lines = (of: string) => readFileSync(join(of, file), "utf8").split("\n")
        const there = new Set(lines(dir))
        assert.deepStrictEqual(
          lines(dir),
          lines(whole).filter((line) => there.has(line))
        )
        // What is missing failed itself, or what it would have been made from did.
        const failures = rejected.filter((row) => row.startsWith("supervised/")).map((row) => row.split(/[ /]/)[2]!)
        const missing = lines(whole).filter((line) => !there.has(line))
        assert.isTrue(missing.every((line) => failures.some((prompt) => line.includes(prompt))))
      }

      // Stopped and continued, the folder is the same.
      const stopped = workplace()
      for (const calls of [150, 300, 400]) assert.isFalse(yield* runUntil(stopped, "begins", calls, { fails }))
      yield* run(stopped, { fails })
      assert.deepStrictEqual(World.files(stopped), World.files(dir))

      // A second start asks for nothing that failed.
      failed.clear()
      const asked: Array<string> = []
      yield* run(dir, { begins: (call) => Effect.sync(() => void asked.push(call)), fails })
      assert.deepStrictEqual(asked, [])
    })
  )

  it.live("an answer without a score is left out of the mean", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const scored = new Set<string>()
      yield* run(dir, {
        ends: (call) => Effect.sync(() => void (call.startsWith("score") && scored.add(call))),
        fails: (call) => call.startsWith("score") && Random.hash("fails", call) % 10 === 0
      })
      const rejected = World.rows(dir, "rejected.jsonl")
      assert.isTrue(
        rejected.every(({ log, reason }) => /scores|calibration|rollouts/.test(log) && /score/.test(reason))
      )
      const kept = ["evaluation/scores.jsonl", "policy/calibration.jsonl", "policy/rollouts.jsonl"]
      assert.strictEqual(kept.flatMap((file) => World.rows(dir, file)).length, scored.size)
    })
  )
})

describe("a failure that is not about the sample", () => {
  const cases: ReadonlyArray<readonly [string, AiError.AiErrorReason]> = [
    ["a server that is gone", new AiError.InternalProviderError({ description: "gone" })],
    ["a key that is not accepted", new AiError.AuthenticationError({ kind: "InvalidKey" })],
    ["an account that is empty", new AiError.QuotaExhaustedError({})]
  ]
  it.live.each(cases)("ends the run, which goes on later: %s", ([, reason]) =>
    Effect.gen(function* () {
      const dir = workplace()
      const critic = (works: number) => {
        const { layer } = MockLanguageModel.make(({ id }) => `says ${id}`)
        let left = works
        return Feedback.layerCritic(
          "a critic",
          Layer.effect(
            LanguageModel.LanguageModel,
            Effect.map(LanguageModel.LanguageModel, (model) => ({
              ...model,
              generateText: ((options: { readonly prompt: string }) =>
                left-- > 0
                  ? model.generateText(options)
                  : Effect.fail(
                      AiError.make({ module: "Test", method: "generateText", reason })
                    )) as unknown as LanguageModel.LanguageModel["generateText"]
            }))
          ).pipe(Layer.provide(layer))
        )
      }
      const exit = yield* Effect.exit(runIn(dir, mocks()).pipe(Effect.provide(critic(5))))
      assert.isTrue(Exit.isFailure(exit))
      assert.strictEqual(readFileSync(join(dir, "rejected.jsonl"), "utf8"), "")
      assert.strictEqual(CliExit.code(exit), 1)
      const summary = yield* runIn(dir, mocks()).pipe(Effect.provide(critic(Infinity)))
      assert.deepStrictEqual(summary.rejected, { total: 0 })
    })
  )
})

describe("a policy that is gone", () => {
  it.live("ends the run, and nothing is rejected", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const mock = mocks()
      let left = 5
      const base = {
        ...mock.service.base,
        sample: (request: Parameters<typeof mock.service.base.sample>[0]) =>
          left-- > 0
            ? mock.service.base.sample(request)
            : Effect.fail(new PolicyError({ message: "the engine is gone", retryable: true }))
      }
      const exit = yield* Effect.exit(runIn(dir, mock, { service: { ...mock.service, base } }))
      assert.isTrue(Exit.isFailure(exit))
      assert.strictEqual(readFileSync(join(dir, "rejected.jsonl"), "utf8"), "")
      const summary = yield* runIn(dir, mocks())
      assert.deepStrictEqual(summary.rejected, { total: 0 })
      assert.strictEqual(summary.counts["responses"], prompts.length)
    })
  )
})

describe("a budget", () => {
  /** A critic of whose calls each takes 100 tokens. */
  const critic = (made: Array<string>) =>
    Feedback.layerCritic(
      "a paid critic",
      Layer.effect(
        LanguageModel.LanguageModel,
        Effect.gen(function* () {
          const model = yield* LanguageModel.LanguageModel
          const generateText = Effect.fnUntraced(function* (options: { readonly prompt: string }) {
            const { reserve } = yield* Budget.Budget
            const reserved = yield* reserve({ input: 100, output: 0 }).pipe(
              Effect.mapError((error) => Budget.toAiError("Test", "generateText", error))
            )
            yield* Effect.yieldNow
            const answer = yield* model.generateText(options)
            yield* reserved.settle({ input: 100, output: 0 })
            return answer
          })
          return { ...model, generateText: generateText as unknown as LanguageModel.LanguageModel["generateText"] }
        })
      ).pipe(
        Layer.provide(
          MockLanguageModel.make(({ id }) => {
            made.push(id)
            return `the critic says ${id}`
          }).layer
        )
      )
    )

  it.live("that is spent ends the run in a sentence, and a later start goes on to the same bytes", () =>
    Effect.gen(function* () {
      const made: Array<string> = []
      const start = (dir: string, tokens: number) =>
        runIn(dir, mocks()).pipe(Effect.provide(critic(made)), Effect.provide(Budget.layer({ tokens })))
      const dir = workplace()
      const first = yield* Effect.exit(start(dir, 750))
      assert.strictEqual(made.length, 7)
      assert.strictEqual(CliExit.code(first), 1)
      const said = CliExit.words(first, "charter run")
      assert.include(said, "the budget of 750 (tokens) has 50 left")
      assert.include(said, "to go on: charter run")
      assert.strictEqual(readFileSync(join(dir, "rejected.jsonl"), "utf8"), "")

      yield* start(dir, 1_000_000)
      const unbroken = workplace()
      const asked = made.splice(0).length
      yield* start(unbroken, 1_000_000)
      assert.strictEqual(made.length, asked)
      // What the mocks save is nothing, so all files are compared.
      assert.deepStrictEqual(World.files(dir), World.files(unbroken))
    })
  )
})

describe("a training of which every row is rejected", () => {
  it.live("ends the run in a sentence, and so it does when it is started again", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const { service } = mocks()
      const rewardModel: typeof service.rewardModel = (name, from) =>
        Effect.map(service.rewardModel(name, from), (model) => ({
          ...model,
          learn: (rows, _, onReject) =>
            Stream.fromIterable(rows).pipe(
              Stream.mapEffect(({ id }) => onReject(id, "it is too long")),
              Stream.drain
            )
        }))
      const said = runIn(dir, mocks(), { service: { ...service, rewardModel } }).pipe(
        Effect.exit,
        Effect.map((exit) => CliExit.words(exit, "charter run"))
      )
      for (let start = 0; start < 2; start++) {
        assert.include(
          yield* said,
          `There is nothing to learn: no row could be used; ${join(dir, "rejected.jsonl")} says why.`
        )
      }
      const rows = World.rows(dir, "rejected.jsonl")
      assert.isAbove(rows.length, 0)
      assert.isTrue(rows.every(({ reason }) => reason === "it is too long"))
      assert.isFalse(existsSync(join(dir, "reward/adapter")))
    })
  )
})
