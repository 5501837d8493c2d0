import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { workplace } from "../workplace.ts"
import { models, prompts, runIn, settings } from "./Fixture.ts"

const lines = (dir: string, file: string) =>
  readFileSync(join(dir, file), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, never>)

describe("ConstitutionalAi", () => {
  it.live("goes through every phase to a summary", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const mock = models()
      const { notice, timings, ...summary } = yield* runIn(dir, mock)
      assert.isUndefined(notice)
      const rounds = settings.supervised.rounds

      assert.strictEqual(lines(dir, "supervised/responses.jsonl").length, prompts.length)
      assert.strictEqual(lines(dir, "supervised/critiques.jsonl").length, 6 * rounds)
      assert.strictEqual(lines(dir, "supervised/revisions.jsonl").length, 6 * rounds)
      assert.strictEqual(lines(dir, "preferences/pairs.jsonl").length, prompts.length)
      assert.strictEqual(lines(dir, "preferences/preferences.jsonl").length, prompts.length)
      assert.strictEqual(
        lines(dir, "policy/rollouts.jsonl").length,
        settings.reinforcement.iterations * settings.reinforcement.batchSize
      )
      assert.deepStrictEqual(
        JSON.parse(readFileSync(join(dir, "summary.json"), "utf8")),
        JSON.parse(JSON.stringify(summary))
      )

      const supervised = mock.policies.get("supervised")!
      assert.strictEqual(supervised.trainings[0]?.examples.length, 6 * rounds + 4)
      assert.deepStrictEqual(supervised.saved, [join(dir, "supervised/adapter")])
      assert.deepStrictEqual(mock.rewardModels.get("reward")?.saved, [join(dir, "reward/adapter")])
      assert.strictEqual(mock.rewardModels.get("reward")?.trainings[0]?.pairs.length, prompts.length - 1)
      assert.deepStrictEqual(mock.policies.get("reinforced")?.saved, [join(dir, "policy/adapter")])
      const updates = mock.policies.get("reinforced")!.updates.map(({ options }) => options)
      // What is learnt is the policy at the temperature that it was sampled at.
      const { iterations, temperature } = settings.reinforcement
      assert.deepStrictEqual(
        updates.map((options) => options.temperature),
        Array<number>(iterations).fill(temperature)
      )

      assert.strictEqual(summary.evaluation.revisions.length, rounds + 1)
      assert.strictEqual(summary.evaluation.base.harmful, null)
      assert.isNumber(summary.evaluation.reinforced.reward)
      assert.isAbove(timings.phases["revise"]?.tokens["sampled"] ?? 0, 1000)
      assert.isAtLeast(summary.tokens["sampled"] ?? 0, timings.phases["revise"]?.tokens["sampled"] ?? Infinity)
      assert.hasAllKeys(summary.seconds, [...Object.keys(timings.phases), "total"])
      assert.deepStrictEqual(summary.rejected, { total: 0 })
      assert.isFalse(existsSync(join(dir, "run.lock")))
    })
  )

  it.live("the same command again asks for nothing and gives the same summary", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const first = yield* runIn(dir, models())
      const again = models()
      const second = yield* runIn(dir, again)
      assert.deepStrictEqual(second, first)
      assert.strictEqual(again.base.samples.length + again.base.choices.length, 0)
      for (const policy of again.policies.values()) {
        assert.strictEqual(policy.samples.length + policy.trainings.length + policy.updates.length, 0)
      }
      for (const model of again.rewardModels.values()) {
        assert.strictEqual(model.scores.length + model.trainings.length, 0)
      }
    })
  )

  it.live("judges under several principles and after thinking, where it is asked to", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const judged = { ...settings, preferences: { ...settings.preferences, principles: 2, reasoning: true } }
      const mock = models()
      yield* runIn(dir, mock, { settings: judged })
      const labels = lines(dir, "preferences/preferences.jsonl") as ReadonlyArray<Record<string, any>>
      assert.strictEqual(labels.length, prompts.length)
      for (const { probability, judgements } of labels) {
        assert.strictEqual(judgements.length, 2)
        assert.isString(judgements[0].reasoning[0])
        assert.isTrue(probability >= 0.4 && probability <= 0.6)
      }
      // Two principles in two orders each.
      assert.strictEqual(mock.base.choices.length, 4 * prompts.length)
    })
  )
})
