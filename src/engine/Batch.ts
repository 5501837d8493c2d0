/** Batch: rows of tokens as the feeds of a learning program. Pure. */
import * as Session from "../onnx/Session.ts"
import type { MicroBatch } from "./Learner.ts"

/** A row whose token t is predicted from those before it, with weight `weights[t]`; weight 0 is no loss. */
export interface WeightedRow {
  readonly ids: ReadonlyArray<number>
  readonly weights: ArrayLike<number>
}

/** Where the tokens of non-zero weight are predicted: flat positions b·T + t − 1, their ids and their weights. */
export const targets = (
  rows: ReadonlyArray<WeightedRow>
): { readonly at: Array<number>; readonly targets: Array<number>; readonly weights: Array<number> } => {
  const length = Math.max(...rows.map((r) => r.ids.length))
  const out = { at: [] as Array<number>, targets: [] as Array<number>, weights: [] as Array<number> }
  rows.forEach((row, b) => {
    for (let t = 1; t < row.ids.length; t++) {
      const weight = row.weights[t]!
      if (weight === 0) continue
      out.at.push(b * length + t - 1)
      out.targets.push(row.ids[t]!)
      out.weights.push(weight)
    }
  })
  return out
}

/** A micro-batch of the `sft` objective. `total` is the sum of weights of the whole batch. */
export const supervised = (rows: ReadonlyArray<WeightedRow>, total: number): MicroBatch => {
  const { at, targets: ids, weights } = targets(rows)
  return {
    rows: rows.map((r) => r.ids),
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
}

/** A micro-batch of the `bradleyTerry` objective out of a batch of `total` pairs; scores are read on the last tokens. */
export const preferences = (pairs: ReadonlyArray<Pair>, total: number): MicroBatch => {
  const count = pairs.length
  const rows = [...pairs.map((p) => p.first), ...pairs.map((p) => p.second)]
  const length = Math.max(...rows.map((r) => r.length))
  const floats = (of: (pair: Pair) => number) => Session.float32(Float32Array.from(pairs, of), [count])
  return {
    rows,
    feeds: {
      last: Session.int64(
        rows.map((row, b) => b * length + row.length - 1),
        [rows.length]
      ),
      first: Session.int64(
        pairs.map((_, i) => i),
        [count]
      ),
      second: Session.int64(
        pairs.map((_, i) => count + i),
        [count]
      ),
      target: floats((p) => p.probability),
      margin: floats(() => 0),
      weights: floats(() => 1 / total)
    }
  }
}
