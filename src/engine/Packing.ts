/**
 * Packing: short rows side by side in one sequence, so that nothing is padded.
 *
 * Positions begin anew with each row and attention stays within it: the loss and its gradients are those of the rows
 * by themselves. Pure.
 */
import * as Session from "../onnx/Session.ts"
import { masked } from "../model/Transformer.ts"
import type { WeightedRow } from "./Batch.ts"
import type { MicroBatch } from "./Learner.ts"

/** Rows in bins of at most `width` tokens, first fit by falling length; a single longer row is a bin. */
export const bins = <Row extends { readonly ids: ReadonlyArray<number> }>(
  rows: ReadonlyArray<Row>,
  width: number
): ReadonlyArray<ReadonlyArray<Row>> => {
  const found: Array<{ room: number; readonly rows: Array<Row> }> = []
  for (const row of [...rows].sort((a, b) => b.ids.length - a.ids.length)) {
    const bin = found.find(({ room }) => room >= row.ids.length)
    if (bin === undefined) found.push({ room: width - row.ids.length, rows: [row] })
    else {
      bin.rows.push(row)
      bin.room -= row.ids.length
    }
  }
  return found.map((bin) => bin.rows)
}

/** The feeds of a packed program's tokens for rows of these ids: ids and positions [1, T], mask [1, 1, T, T]. */
export const tokenFeeds = (rows: ReadonlyArray<ReadonlyArray<number>>): Session.Feeds => {
  const length = rows.reduce((n, ids) => n + ids.length, 0)
  const positions = rows.flatMap((ids) => ids.map((_, t) => t))
  const mask = new Float32Array(length * length).fill(masked)
  let from = 0
  for (const ids of rows) {
    for (let q = 0; q < ids.length; q++) {
      const at = (from + q) * length + from
      mask.fill(0, at, at + q + 1)
    }
    from += ids.length
  }
  return {
    ids: Session.int64(rows.flat(), [1, length]),
    positions: Session.int64(positions, [1, length]),
    causal: Session.float32(mask, [1, 1, length, length])
  }
}

/** A packed micro-batch of the `sft` objective. `total` is the sum of weights of the whole batch. */
export const supervised = (rows: ReadonlyArray<WeightedRow>, total: number): MicroBatch => {
  const [at, targets, weights]: [Array<number>, Array<number>, Array<number>] = [[], [], []]
  let from = 0
  for (const row of rows) {
    // A row's first token is never predicted: before it stands another row's last.
    for (let t = 1; t < row.ids.length; t++) {
      if (row.weights[t] === 0) continue
      at.push(from + t - 1)
      targets.push(row.ids[t]!)
      weights.push(row.weights[t]! / total)
    }
    from += row.ids.length
  }
  return {
    rows: rows.map((row) => row.ids),
    feeds: {
      at: Session.int64(at, [at.length]),
      targets: Session.int64(targets, [targets.length]),
      weights: Session.float32(Float32Array.from(weights), [weights.length])
    }
  }
}
