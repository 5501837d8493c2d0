import { describe, expect, it, vi } from "@effect/vitest"
import { Effect } from "effect"
import * as Turn from "../../src/engine/Turn.ts"

/** Work of a millisecond. */
const work = (): void => {
  const until = performance.now() + 1
  while (performance.now() < until);
}

/** How many turns of the event loop pass until it is told to stop. */
const turns = () => {
  let [count, stopped] = [0, false]
  const next = () => {
    if (stopped) return
    count++
    setImmediate(next)
  }
  setImmediate(next)
  return () => {
    stopped = true
    return count
  }
}

/** So many who pause before a piece of work: their numbers in the order in which they did it. */
const pausing = Effect.fnUntraced(function* (count: number) {
  const done: Array<number> = []
  yield* Effect.forEach(
    Array.from({ length: count }, (_, i) => i),
    (i) =>
      Effect.andThen(
        Turn.pause,
        Effect.sync(() => {
          work()
          done.push(i)
        })
      ),
    { concurrency: "unbounded" }
  )
  return done
})

describe("a turn", () => {
  it.live("of a hundred who pause between pieces of work leaves room for others, and nobody waits for ever", () =>
    Effect.gen(function* () {
      const passed = turns()
      const done = yield* pausing(100)
      // A piece of a millisecond is longer than a stretch: a turn has one of them, or few.
      expect(passed()).toBeGreaterThan(20)
      expect(done).toHaveLength(100)
    })
  )

  it.live("of many who pause does not wake all of them", () =>
    Effect.gen(function* () {
      const timers = vi.spyOn(globalThis, "setImmediate")
      yield* Effect.addFinalizer(() => Effect.sync(() => timers.mockRestore()))
      const done = yield* pausing(200)
      expect(done).toEqual(done.toSorted((a, b) => a - b))
      expect(timers.mock.calls.length).toBeLessThan(1000)
    })
  )

  // Both have the turn's budget in common, and who goes on for long begins every turn.
  it.live("of one who goes on for long leaves room for events, one at least each time", () =>
    Effect.gen(function* () {
      let [sent, told] = [0, 0]
      const listener = Turn.spread<void>(() => told++)
      const events = setInterval(() => {
        sent++
        listener()
      }, 1)
      yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(events)))
      yield* Effect.forEach(Array.from({ length: 200 }), () => Effect.andThen(Turn.pause, Effect.sync(work)), {
        discard: true
      })
      expect(sent).toBeGreaterThan(20)
      expect(told).toBeGreaterThanOrEqual(sent - 1)
    })
  )

  it.live("of many events that arrive together leaves room for others, and they are told in their order", () =>
    Effect.gen(function* () {
      const passed = turns()
      const told: Array<number> = []
      const all = yield* Effect.callback<ReadonlyArray<number>>((resume) => {
        const listener = Turn.spread<number>((i) => {
          work()
          told.push(i)
          if (told.length === 100) resume(Effect.succeed(told))
        })
        for (let i = 0; i < 100; i++) listener(i)
      })
      expect(passed()).toBeGreaterThan(20)
      expect(all).toEqual(Array.from({ length: 100 }, (_, i) => i))
    })
  )
})
