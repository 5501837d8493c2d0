import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Training from "../../src/engine/Training.ts"
import * as TrainingData from "../../src/engine/TrainingData.ts"

/** Rows of so many tokens, every one of which but the first is learnt. */
const rows = (lengths: ReadonlyArray<number>) =>
  lengths.map((length, i) => ({
    id: `${i}`,
    ids: Array<number>(length).fill(5),
    weights: Array<number>(length).fill(1)
  }))

/** How many tokens each micro-batch of a batch learns. */
const learnt = <Row>(data: Training.Data<Row>) =>
  Effect.map(data.collate(data.rows), (micros) => micros.map(({ feeds }) => feeds["targets"]!.dims[0]))

describe("TrainingData", () => {
  it.effect(
    "packs rows of any lengths into the tokens of a micro-batch, and into its rows where they are bounded",
    () =>
      Effect.gen(function* () {
        const some = rows([9, 3, 6, 4, 2])
        expect(yield* learnt(TrainingData.packed(some, { microTokens: 12 }))).toEqual([10, 9])
        expect(yield* learnt(TrainingData.packed(some, { microTokens: 100, microRows: 2 }))).toEqual([13, 5, 1])
      })
  )

  it("has micro-batches of as many tokens as its longest row, at least", () => {
    const data = TrainingData.supervised(rows([9, 3]), { microTokens: 4 })
    expect([Training.mostTokens(data, 4), Training.mostTokens(data, 20)]).toEqual([9, 20])
  })
})
