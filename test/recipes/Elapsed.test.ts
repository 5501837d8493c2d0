import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import * as Elapsed from "../../src/recipes/Elapsed.ts"

describe("Elapsed", () => {
  it.effect("counts seconds on, though the system's clock is set back", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(3_600_000)
      const seconds = yield* Elapsed.begin
      yield* TestClock.adjust("2 seconds")
      yield* TestClock.setTime(0)
      assert.strictEqual(yield* seconds, 2)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* seconds, 3)
    })
  )
})
