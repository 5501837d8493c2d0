import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import type { AiError } from "effect/ai"
import { TestClock } from "effect/testing"
import * as Failure from "../../../src/providers/http/Failure.ts"
import * as Readable from "../../../src/providers/http/Readable.ts"

const place = { module: "Test", method: "generateText", url: "http://localhost/v1", model: "fake" }
const shape = Effect.fail(Failure.unexpected(place, "{}", "there are no choices"))
const missing = Effect.fail(Failure.fromStatus(place, 404, {} as never, "gone", 0))
const fine = Effect.succeed("an answer")

/** Whose failure it is: a 404 and another shape are those of every request, unless the server is known. */
const ofEvery = ({ reason }: AiError.AiError) =>
  reason._tag === "InvalidResponseError" || (reason._tag === "InvalidRequestError" && reason.parameter !== undefined)

describe("an odd answer", () => {
  it.effect("is that of a server of another kind while nothing could be read, and told at once", () =>
    Effect.gen(function* () {
      for (const odd of [shape, missing]) {
        const { tell } = yield* Readable.make
        assert.isTrue(ofEvery(yield* Effect.flip(tell(odd))))
      }
    })
  )

  it.effect("is that of one request once the server has answered another, in the same words", () =>
    Effect.gen(function* () {
      const { tell } = yield* Readable.make
      yield* tell(fine)
      const unread = yield* Effect.flip(tell(shape))
      assert.strictEqual(unread.reason._tag, "InvalidOutputError")
      const gone = yield* Effect.flip(tell(missing))
      assert.isFalse(ofEvery(gone))
      assert.isFalse(unread.isRetryable || gone.isRetryable)
      assert.include(gone.message, "localhost answered 404: gone")
      assert.include(unread.message, "another shape: there are no choices")
    })
  )

  it.effect("is that of one request where the cache knows the server from an earlier start", () =>
    Effect.gen(function* () {
      const { tell, known } = yield* Readable.make
      yield* known
      assert.isFalse(ofEvery(yield* Effect.flip(tell(missing))))
    })
  )

  it.effect("that comes first waits for those that are under way", () =>
    Effect.gen(function* () {
      const { tell } = yield* Readable.make
      const slow = yield* Deferred.make<string>()
      const other = yield* Effect.forkChild(tell(Deferred.await(slow)))
      yield* Effect.yieldNow
      const first = yield* Effect.forkChild(Effect.flip(tell(missing)))
      yield* Effect.yieldNow
      yield* Deferred.succeed(slow, "an answer")
      yield* Fiber.join(other)
      assert.isFalse(ofEvery(yield* Fiber.join(first)))
    })
  )

  it.effect("waits no longer than a moment, nor for one that was interrupted", () =>
    Effect.gen(function* () {
      for (const end of [
        () => TestClock.adjust("5 seconds"),
        (other: Fiber.Fiber<never, AiError.AiError>) => Fiber.interrupt(other)
      ]) {
        const { tell } = yield* Readable.make
        const other = yield* Effect.forkChild(tell(Effect.never))
        yield* Effect.yieldNow
        const first = yield* Effect.forkChild(Effect.flip(tell(missing)))
        yield* Effect.yieldNow
        yield* end(other)
        assert.isTrue(ofEvery(yield* Fiber.join(first)))
      }
    })
  )

  it.effect("is that of every request again where there are too many one after the other: the model is gone", () =>
    Effect.gen(function* () {
      const { tell } = yield* Readable.make
      yield* tell(fine)
      const errors = yield* Effect.replicateEffect(Effect.flip(tell(missing)), 21)
      assert.deepStrictEqual(errors.map(ofEvery), [...Array(20).fill(false), true])
    })
  )
})
