/**
 * Forward: log-probabilities, scores and values of many rows at once, without a gradient: what learning needs of models
 * that stay as they are. What else is in a batch changes no bit of them (`Scorer`), so a resumed training gets the same.
 */
import { Effect } from "effect"
import type { SessionError } from "../onnx/Session.ts"
import type { Adapter } from "./Adapters.ts"
import type { WeightedRow } from "./Batch.ts"
import type { Request, Scorer } from "./Scorer.ts"

/** Numbers for each row; the model is the base where `adapter` is undefined. */
type Numbers = Effect.Effect<ReadonlyArray<ReadonlyArray<number>>, SessionError>

/** Rows by index, each in one group; those of a group begin alike, and are computed together where there are several. */
export type Families = ReadonlyArray<ReadonlyArray<number>>

/** Forward passes over many rows. */
export interface Forward {
  /** log p of the tokens of non-zero weight of each row, nats. */
  readonly logprobs: (adapter: Adapter | undefined, rows: ReadonlyArray<WeightedRow>, families?: Families) => Numbers
  /** What the value head says where each of these tokens is predicted. */
  readonly values: (adapter: Adapter, rows: ReadonlyArray<WeightedRow>, families?: Families) => Numbers
  /** The score of each row, read on its last token. */
  readonly scores: (
    adapter: Adapter,
    rows: ReadonlyArray<ReadonlyArray<number>>
  ) => Effect.Effect<ReadonlyArray<number>, SessionError>
}

/** Where the tokens of non-zero weight stand; a row's first token is never predicted. */
const counted = ({ ids, weights }: WeightedRow): ReadonlyArray<number> =>
  ids.flatMap((_, t) => (t > 0 && weights[t] !== 0 ? [t] : []))

/** Forward passes by a scorer; log-probabilities are those of logits divided by the temperature. */
export const over = ({ family, score }: Scorer, temperature = 1): Forward => {
  const each = Effect.fnUntraced(function* (requests: ReadonlyArray<Request>, families?: Families) {
    const found: Array<ReadonlyArray<number>> = []
    yield* Effect.forEach(
      families ?? requests.map((_, i) => [i]),
      Effect.fnUntraced(function* (members) {
        const asked = members.map((i) => requests[i]!)
        const numbers = asked.length === 1 ? [yield* score(asked[0]!)] : yield* family(asked)
        members.forEach((i, m) => (found[i] = numbers[m]!))
      }),
      { concurrency: "unbounded", discard: true }
    )
    return found
  })
  return {
    logprobs: (adapter, rows, families) =>
      each(
        rows.map((row) => {
          const at = counted(row)
          const targets = at.map((t) => row.ids[t]!)
          return { ids: row.ids, adapter, kind: "logprobs", at: at.map((t) => t - 1), targets, temperature }
        }),
        families
      ),
    values: (adapter, rows, families) =>
      each(
        rows.map((row) => {
          const at = counted(row).map((t) => t - 1)
          return { ids: row.ids, adapter, kind: "value", at, targets: [] }
        }),
        families
      ),
    scores: (adapter, rows) =>
      Effect.map(
        each(rows.map((ids) => ({ ids, adapter, kind: "score", at: [ids.length - 1], targets: [] }))),
        (scores) => scores.map(([x]) => x!)
      )
  }
}
