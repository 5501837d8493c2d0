import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as AdapterTable from "../../src/engine/AdapterTable.ts"
import type { Adapter } from "../../src/engine/Adapters.ts"
import { heads } from "../../src/engine/LearnProgram.ts"
import * as Trainables from "../../src/engine/Trainables.ts"

const adapter = (...names: ReadonlyArray<string>): Adapter => {
  const layout = Trainables.layout(names.map((name) => ({ name, shape: [1, 2], group: "adapter" })))
  return {
    ...{ config: { rank: 1, alpha: 1, targets: [] }, taskType: "CAUSAL_LM", scales: new Map() },
    ...{ layout, vector: new Float32Array(layout.size) }
  }
}

describe("the adapters of an engine", () => {
  it.effect("are found by name; one that is not there may be made again, and no name is the base", () =>
    Effect.gen(function* () {
      const table = AdapterTable.make()
      const policy = adapter()
      table.set("policy", policy)
      expect(yield* table.named("policy")).toBe(policy)
      expect(yield* table.optional(null)).toBeUndefined()
      const error = yield* Effect.flip(table.optional("reward"))
      expect(error).toMatchObject({ message: expect.stringContaining("no adapter reward"), retryable: true })
    })
  )

  it.effect("are asked for a head only where they have it", () =>
    Effect.gen(function* () {
      const table = AdapterTable.make()
      table.set("policy", adapter(heads.value))
      expect((yield* table.headed("policy", "value")).layout.size).toBe(2)
      const error = yield* Effect.flip(table.headed("policy", "score"))
      expect(error).toMatchObject({ message: expect.stringContaining("no score head"), refused: true })
    })
  )

  it.effect("are changed by one at a time, each for itself", () =>
    Effect.gen(function* () {
      const table = AdapterTable.make()
      const done: Array<string> = []
      const change = (name: string, what: string) => table.alone(name)(Effect.sync(() => done.push(what)))
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* table.aloneScoped("policy")
          const waiting = yield* Effect.forkChild(change("policy", "second"), { startImmediately: true })
          yield* change("reward", "other")
          expect(done).toEqual(["other"])
          return waiting
        })
      ).pipe(Effect.flatMap(Fiber.join))
      expect(done).toEqual(["other", "second"])
    })
  )
})
