import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import * as Progress from "../../src/cli/Progress.ts"

const recorder = (isTTY: boolean) => {
  const written: Array<string> = []
  const output = { isTTY, columns: 80, write: (text: string) => written.push(text) }
  const progress = Progress.make(output)
  return { written, progress }
}

describe("Progress", () => {
  it("tells rate and time left from the steps of this start alone", () => {
    const state = { phase: "revise", total: 100, done: 60, reused: 40, note: "", seconds: 10 }
    assert.strictEqual(Progress.line(state), "revise         60/100  2.0/s  20 s left")
    assert.include(Progress.line({ ...state, done: 41 }), "6.0/min  10 min left")
    assert.include(Progress.line(state, { bar: true }), "█")
  })

  it.effect("writes plain lines where there is no terminal", () =>
    Effect.gen(function* () {
      const { written, progress } = recorder(false)
      yield* progress.begin("revise", 3)
      yield* progress.advance({ reused: true })
      yield* TestClock.adjust("20 seconds")
      yield* progress.advance({ note: "loss 1.0" })
      yield* progress.advance()
      yield* progress.end
      assert.deepStrictEqual(written, [
        "revise         2/3  3.0/min  20 s left  loss 1.0\n",
        "revise         3/3  6.0/min  loss 1.0  in 20 s (1 kept from before)\n"
      ])
    })
  )

  it.effect("says of a phase that is over what was done, and not that some of it is left", () =>
    Effect.gen(function* () {
      const { written, progress } = recorder(false)
      yield* progress.begin("revise", 3)
      yield* TestClock.adjust("10 seconds")
      yield* progress.advance()
      yield* progress.advance()
      yield* progress.end
      assert.deepStrictEqual(written, ["revise         2/3  12.0/min  in 10 s\n"])
    })
  )

  it.effect("draws a bar over itself on a terminal", () =>
    Effect.gen(function* () {
      const { written, progress } = recorder(true)
      yield* progress.begin("revise", 3)
      yield* progress.end
      assert.isTrue(written.every((text) => text.startsWith("\r")))
      assert.isTrue(written.every((text) => text.replace("\r\x1b[2K", "").trimEnd().length < 80))
    })
  )

  it.effect("does not go by the system's clock, which may be set back", () =>
    Effect.gen(function* () {
      const { written, progress } = recorder(false)
      yield* TestClock.setTime(3_600_000)
      yield* progress.begin("revise", 1)
      yield* TestClock.setTime(0)
      yield* progress.end
      assert.deepStrictEqual(written, ["revise         0/1  in 0 s\n"])
    })
  )
})
