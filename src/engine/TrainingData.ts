/** TrainingData: rows and pairs as what a training learns from, cut into micro-batches of bounded size. */
import { Effect } from "effect"
import type * as Adapters from "./Adapters.ts"
import * as Batch from "./Batch.ts"
import type { Forward } from "./Forward.ts"
import * as Layout from "./Layout.ts"
import * as Packing from "./Packing.ts"
import * as Training from "./Training.ts"

/** A row with its name. */
export interface NamedRow extends Batch.WeightedRow {
  readonly id: string
}

/** A pair with its name. */
export interface NamedPair extends Batch.Pair {
  readonly id: string
}

/** How a batch is cut: tokens, and rows where a bound is given. */
export interface Cut {
  readonly microTokens: number
  readonly microRows?: number
}

/** Rows in parts of as many as a micro-batch may have. */
const few = <Row>(rows: ReadonlyArray<Row>, { microRows = Infinity }: Cut): ReadonlyArray<ReadonlyArray<Row>> =>
  Training.bounded([rows], microRows).map((part) => part.flat())

/** {@link Training.microBatches} with a bound on rows, too. */
export const cut = <Row>(
  rows: ReadonlyArray<Row>,
  lengthOf: (row: Row) => number,
  how: Cut
): ReadonlyArray<ReadonlyArray<Row>> =>
  Training.microBatches(rows, lengthOf, how.microTokens).flatMap((group) => few(group, how))

const pairTokens = ({ first, second }: Batch.Pair): number => first.length + second.length

/** Micro-batches of pairs; those that share their beginning are apart from those that do not. */
const cutPairs = <Pair extends Batch.Pair>(
  pairs: ReadonlyArray<Pair>,
  how: Cut
): ReadonlyArray<ReadonlyArray<Pair>> => {
  const by = Map.groupBy(pairs, Batch.shares)
  return [
    ...cut(by.get(true) ?? [], ({ first, second }) => Layout.familyTokens([first, second]), how),
    ...cut(by.get(false) ?? [], pairTokens, how)
  ]
}

/** For `sft`: the mean is over the tokens of the whole batch. */
export const supervised = <Row extends NamedRow>(rows: ReadonlyArray<Row>, how: Cut): Training.Data<Row> => ({
  rows,
  id: (row) => row.id,
  tokens: (row) => row.ids.length,
  collate: (batch) => {
    const total = Batch.totalWeight(batch)
    return Effect.succeed(cut(batch, (r) => r.ids.length, how).map((part) => Batch.supervised(part, total)))
  }
})

/** {@link supervised} in fewer micro-batches, as rows of any lengths may come together. */
export const packed = <Row extends NamedRow>(rows: ReadonlyArray<Row>, how: Cut): Training.Data<Row> => ({
  ...supervised(rows, how),
  collate: (batch) => {
    const total = Batch.totalWeight(batch)
    const bins = Packing.bins(batch, (row) => row.ids.length, how.microTokens)
    return Effect.succeed(bins.flatMap((bin) => few(bin, how)).map((part) => Batch.supervised(part, total)))
  }
})

/** For `bradleyTerry`: the mean is over the pairs of the whole batch. */
export const preferences = <Pair extends NamedPair>(pairs: ReadonlyArray<Pair>, how: Cut): Training.Data<Pair> => ({
  rows: pairs,
  id: (pair) => pair.id,
  tokens: pairTokens,
  collate: (batch) => Effect.succeed(cutPairs(batch, how).map((part) => Batch.preferences(part, batch.length)))
})

/** For `dpo`: the log-probabilities of the reference (the base where it is undefined) are computed with each batch. */
export const directPreferences = <Pair extends NamedPair>(
  pairs: ReadonlyArray<Pair>,
  how: Cut,
  forward: Forward,
  reference: Adapters.Adapter | undefined
): Training.Data<Pair> => ({
  rows: pairs,
  id: (pair) => pair.id,
  tokens: pairTokens,
  collate: (batch) =>
    Effect.forEach(cutPairs(batch, how), (part) =>
      Effect.map(forward.logprobs(reference, Batch.answers(part), Batch.families(part)), (logprobs) =>
        Batch.directPreferences(
          part,
          batch.length,
          logprobs.map((row) => row.reduce((a, b) => a + b, 0))
        )
      )
    )
})
