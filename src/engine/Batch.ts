/** Batch: rows of tokens as the feeds of a learning program. Pure. */
import * as Session from "../onnx/Session.ts"
import * as Layout from "./Layout.ts"
import type { MicroBatch } from "./Learner.ts"

/** A row whose token t is predicted from those before it, with weight `weights[t]`; weight 0 is no loss. */
export interface WeightedRow {
  readonly ids: ReadonlyArray<number>
  readonly weights: ArrayLike<number>
}

/** A row of which the tokens from `from` on count, one like the other: an answer after its prompt. */
export const answerRow = (ids: ReadonlyArray<number>, from: number) => ({
  ids,
  weights: ids.map((_, t) => (t < from ? 0 : 1))
})

/** The tokens of non-zero weight of a micro-batch: the places before them, their ids, weights and numbers of their rows. */
export interface Targets {
  readonly at: ReadonlyArray<number>
  readonly targets: ReadonlyArray<number>
  readonly weights: ReadonlyArray<number>
  readonly sequence: ReadonlyArray<number>
}

/** Where rows are predicted. */
export const targets = (rows: ReadonlyArray<WeightedRow>, layout: Layout.Layout): Targets => {
  const at: Array<number> = []
  const ids: Array<number> = []
  const weights: Array<number> = []
  const sequence: Array<number> = []
  rows.forEach((row, b) => {
    for (let t = 1; t < row.ids.length; t++) {
      const weight = row.weights[t]!
      if (weight === 0) continue
      at.push(layout.at(b, t - 1))
      ids.push(row.ids[t]!)
      weights.push(weight)
      sequence.push(b)
    }
  })
  return { at, targets: ids, weights, sequence }
}

/** A micro-batch of the `sft` objective. `total` is the sum of weights of the whole batch. */
export const supervised = (rows: ReadonlyArray<WeightedRow>, total: number): MicroBatch => {
  const layout = Layout.apart(rows.map((r) => r.ids))
  const { at, targets: ids, weights } = targets(rows, layout)
  return {
    tokens: layout.feeds,
    feeds: {
      at: Session.int64(at, [at.length]),
      targets: Session.int64(ids, [ids.length]),
      weights: Session.float32(
        Float32Array.from(weights, (w) => w / total),
        [weights.length]
      )
    }
  }
}

/** The sum of the weights that count (a row's first token is never predicted). */
export const totalWeight = (rows: ReadonlyArray<WeightedRow>): number => {
  let total = 0
  for (const row of rows) for (let t = 1; t < row.ids.length; t++) total += row.weights[t]!
  return total
}

/** A pair of whole sequences with the probability that the first is preferred. */
export interface Pair {
  readonly first: ReadonlyArray<number>
  readonly second: ReadonlyArray<number>
  readonly probability: number
  /** By how much the first is to be ahead; 0 if left out. */
  readonly margin?: number
  /** Tokens that the two have in common and that are not learnt: the prompt. Only `dpo` reads it. */
  readonly from?: number
}

/** The feeds that the objectives of pairs share, out of a batch of `total` pairs: the firsts, then the seconds. */
const pairFeeds = (pairs: ReadonlyArray<Pair>, total: number): Session.Feeds => {
  const count = pairs.length
  const floats = (of: (pair: Pair) => number) => Session.float32(Float32Array.from(pairs, of), [count])
  return {
    first: Session.int64(
      pairs.map((_, i) => i),
      [count]
    ),
    second: Session.int64(
      pairs.map((_, i) => count + i),
      [count]
    ),
    target: floats((p) => p.probability),
    margin: floats((p) => p.margin ?? 0),
    weights: floats(() => 1 / total)
  }
}

/** Whether the two sequences of a pair share their common beginning. */
export const shares = ({ first, second }: Pair): boolean => Layout.pays([first, second])

/** Which rows of pairs, the firsts before the seconds, share their beginning. */
export const families = (pairs: ReadonlyArray<Pair>): ReadonlyArray<ReadonlyArray<number>> =>
  pairs.flatMap((pair, i) => (shares(pair) ? [[i, pairs.length + i]] : [[i], [pairs.length + i]]))

const layoutOf = (pairs: ReadonlyArray<Pair>): Layout.Layout =>
  Layout.make([...pairs.map((p) => p.first), ...pairs.map((p) => p.second)], families(pairs))

/** A micro-batch of the `bradleyTerry` objective out of a batch of `total` pairs; scores are read on the last tokens. */
export const preferences = (pairs: ReadonlyArray<Pair>, total: number): MicroBatch => {
  const rows = [...pairs.map((p) => p.first), ...pairs.map((p) => p.second)]
  const layout = layoutOf(pairs)
  const last = rows.map((row, b) => layout.at(b, row.length - 1))
  return { tokens: layout.feeds, feeds: { last: Session.int64(last, [rows.length]), ...pairFeeds(pairs, total) } }
}

/** The rows of a micro-batch of pairs, the firsts before the seconds, every token after the prompt of weight 1. */
export const answers = (pairs: ReadonlyArray<Pair>): ReadonlyArray<WeightedRow> =>
  [pairs.map((p) => p.first), pairs.map((p) => p.second)].flatMap((side) =>
    side.map((ids, i) => answerRow(ids, pairs[i]!.from ?? 0))
  )

/** A micro-batch of the `dpo` objective out of `total` pairs; `reference` has the summed log π_ref of {@link answers}. */
export const directPreferences = (
  pairs: ReadonlyArray<Pair>,
  total: number,
  reference: ArrayLike<number>
): MicroBatch => {
  const rows = answers(pairs)
  const layout = layoutOf(pairs)
  const { at, sequence, targets: ids } = targets(rows, layout)
  return {
    tokens: layout.feeds,
    feeds: {
      at: Session.int64(at, [at.length]),
      targets: Session.int64(ids, [ids.length]),
      sequence: Session.int64(sequence, [sequence.length]),
      reference: Session.float32(Float32Array.from(reference), [rows.length]),
      ...pairFeeds(pairs, total)
    }
  }
}
