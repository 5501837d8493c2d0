import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"
import { Preference, Response, Revision, Reward, Rollout, Sample, Stage } from "../../src/index.ts"
import { MockDecisionModel, MockLanguageModel, MockPolicy, MockRewardModel } from "../../src/testing/index.ts"
import { constitution } from "./Fixture.ts"

/** 200 prompts through every stage. */
const records = Effect.fnUntraced(function* (failOn: (n: number) => boolean) {
  const prompts = Array.from({ length: 200 }, (_, i) => Sample.prompt(`Question ${i}`))
  const seed = 3
  const rejected: Array<Stage.Rejected> = []
  const sink = Stage.rejectTo((sample) => Effect.sync(() => void rejected.push(sample)))
  const models = Layer.mergeAll(
    MockLanguageModel.make(({ id }) => `text ${id}`, { model: "writer", failOn }).layer,
    MockDecisionModel.make(({ a }) => (a.length % 10) / 10, { model: "judge", failOn }).layer,
    MockPolicy.make({ sample: ({ id }) => `rollout ${id}`, model: "policy", failOn }).layer,
    MockRewardModel.make({ score: 1, model: "reward model", failOn }).layer,
    constitution
  )
  const asked = Stream.fromIterable(prompts)
  const revisions = yield* asked.pipe(
    Response.stage({ seed }).pipe(Stage.compose(Revision.rounds(2, { seed })), sink),
    Stream.runCollect,
    Effect.provide(models)
  )
  const preferences = yield* asked.pipe(
    Response.pair({ seed }).pipe(Stage.compose(Preference.stage({ seed })), sink),
    Stream.runCollect,
    Effect.provide(models)
  )
  const rewards = yield* asked.pipe(
    Rollout.stage({ iteration: 0, seed }).pipe(Stage.compose(Reward.stage()), sink),
    Stream.runCollect,
    Effect.provide(models)
  )
  return { prompts, rejected, revisions, preferences, rewards, seed }
})

describe("the way back", () => {
  it.effect("leads from every result to its prompt, past every principle, model and seed", () =>
    Effect.gen(function* () {
      const { prompts, rejected, revisions, preferences, rewards, seed } = yield* records((n) => n % 10 === 0)
      const byId = new Map(revisions.map((revision) => [revision.id, revision]))
      const promptIds = new Set(prompts.map(({ id }) => id))
      const all = [...revisions, ...preferences, ...rewards]
      assert.isAbove(all.length, 400)
      assert.isAbove(rejected.length, 40)

      for (const record of all) {
        const trail = Sample.trail(record, (id) => byId.get(id))
        assert.isTrue(promptIds.has(trail.at(-1)!.id))
        assert.strictEqual(trail[0]!.id, record.id)
        for (const step of trail) {
          if (step.kind === "prompt" || step.kind === "comparison") continue
          assert.isString(step.model)
          // A score has no seed: nothing is drawn for it.
          assert.strictEqual(step.seed, step.kind === "reward" ? undefined : seed)
          if (["critique", "revision"].includes(step.kind)) assert.strictEqual(step.principle, "kind")
        }
      }
      const second = revisions.find(({ round }) => round === 2)!
      assert.deepStrictEqual(
        Sample.trail(second, (id) => byId.get(id)).map(({ kind }) => kind),
        ["revision", "critique", "revision", "critique", "response", "prompt"]
      )
    })
  )

  it.effect("gives the same ids for the same prompts, models and seeds", () =>
    Effect.gen(function* () {
      const ids = Effect.map(
        records(() => false),
        ({ revisions, rewards }) => [...revisions, ...rewards].map(({ id }) => id)
      )
      assert.deepStrictEqual(yield* ids, yield* ids)
    })
  )
})
