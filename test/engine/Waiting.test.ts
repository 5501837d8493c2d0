import { assert, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope } from "effect"
import type * as Session from "../../src/onnx/Session.ts"
import * as Decoder from "../../src/engine/Decoder.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Golden from "./golden.ts"

type Ask = () => Effect.Effect<unknown, Session.SessionError | Decoder.DecoderError>

const ids = [3, 4, 5]

const programs = {
  decoder: Effect.map(
    Effect.flatMap(Golden.load, ({ checkpoint }) => Decoder.make(checkpoint, { memory: 1e6, maxRows: 2 })),
    ({ generate }): Ask =>
      () =>
        generate({ id: "", ids, adapter: undefined, seed: 1, maxTokens: 200, temperature: 1, stopIds: new Set() })
  ),
  scorer: Effect.map(
    Effect.flatMap(Golden.load, ({ checkpoint }) => Scorer.make(checkpoint, { maxTokens: 1 })),
    ({ score }): Ask =>
      () =>
        score({ ids, adapter: undefined, kind: "logprobs", at: [0], targets: [4] })
  )
}

it.live.each(["decoder", "scorer"] as const)("who waits for a %s whose scope closes is interrupted", (name) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const ask = yield* programs[name].pipe(Effect.provideService(Scope.Scope, scope))
    const asking = yield* Effect.forEach(Array.from({ length: 20 }), () => Effect.forkChild(ask()))
    yield* Effect.sleep("5 millis")
    yield* Scope.close(scope, Exit.void)
    const late = yield* Effect.forkChild(ask())
    for (const fiber of [...asking.slice(-1), late]) {
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
    }
  })
)
