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

describe("what is compiled for a name", () => {
  it.effect("is compiled once, and released when its options change, when it is dropped and at the end", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      yield* Effect.scoped(
        Effect.gen(function* () {
          const compiled = yield* Compiled.make<string>()
          expect(yield* compiled.get("a", { clip: 0.2 }, compile(log, "a1"))).toBe("a1")
          expect(yield* compiled.get("a", { clip: 0.2 }, compile(log, "never"))).toBe("a1")
          expect(yield* compiled.get("b", { clip: 0.3 }, compile(log, "b"))).toBe("b")
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

  it.effect("is the same for all names with the same options, and released when the last of them gives it up", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const compiled = yield* Compiled.make<string>()
      const names = ["a", "b", "c"]
      const get = (name: string) => compiled.get(name, { rank: 8 }, compile(log, name))
      expect(yield* Effect.forEach(names, get, { concurrency: "unbounded" })).toEqual(["a", "a", "a"])
      yield* compiled.drop("a")
      expect(yield* compiled.get("b", { rank: 4 }, compile(log, "other"))).toBe("other")
      expect(log).toEqual(["+a", "+other"])
      yield* compiled.drop("c")
      expect(log).toEqual(["+a", "+other", "-a"])
      expect(yield* get("a")).toBe("a")
    })
  )
})
