import { describe, expect, it } from "@effect/vitest"
import { Effect, Scope } from "effect"
import * as Compiled from "../../src/engine/Compiled.ts"

/** Something that is compiled, which says when it is and when it is released. */
const compile = (log: Array<string>, name: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      log.push(`+${name}`)
      return name
    }),
    () => Effect.sync(() => log.push(`-${name}`))
  )

describe("what is compiled under a name", () => {
  it.effect("is compiled once, and released when its options change, when it is dropped and at the end", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      yield* Effect.scoped(
        Effect.gen(function* () {
          const compiled = yield* Compiled.make<string>()
          expect(yield* compiled.get("a", { clip: 0.2 }, compile(log, "a1"))).toBe("a1")
          expect(yield* compiled.get("a", { clip: 0.2 }, compile(log, "never"))).toBe("a1")
          expect(yield* compiled.get("b", { clip: 0.2 }, compile(log, "b"))).toBe("b")
          expect(yield* compiled.get("a", { clip: 0.1 }, compile(log, "a2"))).toBe("a2")
          expect(log).toEqual(["+a1", "+b", "-a1", "+a2"])
          yield* compiled.drop("a")
          yield* compiled.drop("a")
          expect(log.splice(0)).toEqual(["+a1", "+b", "-a1", "+a2", "-a2"])
          yield* compiled.get("a", { clip: 0.1 }, compile(log, "a3"))
        })
      )
      expect(log.toSorted()).toEqual(["+a3", "-a3", "-b"])
    })
  )
})
