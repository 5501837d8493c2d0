import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as Overrides from "../../src/recipes/Overrides.ts"
import * as Settings from "../../src/recipes/Settings.ts"

const message = (...assignments: ReadonlyArray<string>) =>
  Result.match(Overrides.parse(assignments), { onSuccess: () => "", onFailure: (failure) => failure })

describe("Overrides", () => {
  it("sets values by path, the last one winning", () => {
    const overrides = Result.getOrThrow(
      Overrides.parse([
        ...["supervised.rounds=2", "seed=7", "reward.schedule = linear", "supervised.rounds=3"],
        "preferences.reasoning=true"
      ])
    )
    const settings = Overrides.apply(Settings.sandbox(), overrides)
    assert.strictEqual(settings.supervised.rounds, 3)
    assert.strictEqual(settings.seed, 7)
    assert.strictEqual(settings.reward.schedule, "linear")
    assert.strictEqual(settings.reward.epochs, 2)
    assert.isTrue(settings.preferences.reasoning)
  })

  it("names the nearest key", () => {
    assert.include(message("supervised.round=2"), "did you mean supervised.rounds?")
    assert.include(message("learning_rate=2"), "learningRate?")
    assert.include(message("reinforcement.kl=1"), "reinforcement.")
    assert.include(message("limit=1"), "did you mean data.limit?")
  })

  it.each([
    "lora.alpha",
    "supervised.maxGradNorm",
    "reward.maxGradNorm",
    "reinforcement.maxGradNorm",
    "reinforcement.clip",
    "reinforcement.valueClip"
  ])("refuses a %s of 0 before anything begins, as nothing could be learnt with it", (path) => {
    assert.strictEqual(message(`${path}=0`), `${path} has to be a number above 0, and "0" is not.`)
  })

  it("names the type that a value has to have", () => {
    assert.include(message("preferences.reasoning=1"), "true or false")
    assert.strictEqual(
      message("supervised.rounds=two"),
      'supervised.rounds has to be a whole number, 1 or more, and "two" is not.'
    )
    assert.include(message("supervised.rounds=0"), "a whole number, 1 or more")
    assert.include(message("reward.holdout=1.5"), "a number from 0 to 1")
    assert.include(message("reward.schedule=step"), "constant, linear or cosine")
    assert.include(message("seed="), "a whole number")
    assert.include(message("seed"), "path=value")
  })
})

describe("Settings", () => {
  const valid = Schema.is(Settings.Settings)

  it("has defaults that are valid for any number of prompts", () => {
    assert.isTrue(valid(Settings.sandbox()))
    for (const limit of [1, 8, 64, 5000]) assert.isTrue(valid(Settings.sandbox(limit)))
    for (const harmful of [1, 2, 8, 16, 19, 20, 64, 65, 1000, 100_000]) {
      assert.isTrue(valid(Settings.forPrompts({ harmful, benign: 0 })), `${harmful}`)
    }
  })

  it("is small for a handful of prompts", () => {
    const { supervised, reinforcement } = Settings.forPrompts({ harmful: 8, benign: 0 })
    assert.strictEqual(supervised.rounds, 2)
    assert.strictEqual(reinforcement.iterations, 2)
    assert.strictEqual(reinforcement.batchSize, 8)
  })
})
