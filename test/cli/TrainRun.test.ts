import { describe, expect, it } from "@effect/vitest"
import * as TrainRun from "../../src/cli/TrainRun.ts"

const line = (step: number, eval_loss: number | null) => ({ step, loss: 1, eval_loss })

describe("the best evaluation of a training", () => {
  it("is the first one of the lowest loss, and no step without an evaluation", () => {
    const lines = [{ step: 1, loss: 0 }, line(2, 0.7), line(3, 0.5), line(4, 0.5), line(5, 0.6)]
    expect(TrainRun.bestOf(lines)?.step).toBe(3)
    expect(TrainRun.bestOf([{ step: 1, loss: 0 }])).toBeUndefined()
  })

  it("is none without a finite loss, whether it was just measured or read back from a file", () => {
    expect(TrainRun.bestOf([line(1, Number.NaN), line(2, 0.7), line(3, 0.9)])?.step).toBe(2)
    for (const loss of [Number.NaN, Infinity, null]) expect(TrainRun.bestOf([line(1, loss)])).toBeUndefined()
  })
})
