/**
 * Forward: log-probabilities, scores and values of many rows at once, without a gradient: what learning needs of models
 * that stay as they are. What else is in a batch changes no bit of them (`Scorer`), so a resumed training gets the same.
 */
import { Effect } from "effect"
import type { SessionError } from "../onnx/Session.ts"
import type { Adapter } from "./Adapters.ts"
import type { WeightedRow } from "./Batch.ts"
import type { Scorer } from "./Scorer.ts"

/** Numbers for each row; the model is the base where `adapter` is undefined. */
type Numbers = Effect.Effect<ReadonlyArray<ReadonlyArray<number>>, SessionError>

export interface Forward {
  /** log p of the tokens of non-zero weight of each row, nats. */
  readonly logprobs: (adapter: Adapter | undefined, rows: ReadonlyArray<WeightedRow>) => Numbers
  /** What the value head says where each of these tokens is predicted. */
  readonly values: (adapter: Adapter, rows: ReadonlyArray<WeightedRow>) => Numbers
  /** The score of each row, read on its last token. */
  readonly scores: (
    adapter: Adapter,
    rows: ReadonlyArray<ReadonlyArray<number>>
  ) => Effect.Effect<ReadonlyArray<number>, SessionError>
}

/** Where the tokens of non-zero weight stand; a row's first token is never predicted. */
const counted = ({ ids, weights }: WeightedRow): ReadonlyArray<number> =>
  ids.flatMap((_, t) => (t > 0 && weights[t] !== 0 ? [t] : []))

/** Forward passes by a scorer. */
export const over = ({ score }: Scorer): Forward => {
  const each = <Row>(rows: ReadonlyArray<Row>, f: (row: Row) => ReturnType<Scorer["score"]>): Numbers =>
    Effect.forEach(rows, f, { concurrency: "unbounded" })
  return {
    logprobs: (adapter, rows) =>
      each(rows, (row) => {
        const at = counted(row)
        const targets = at.map((t) => row.ids[t]!)
        return score({ ids: row.ids, adapter, kind: "logprobs", at: at.map((t) => t - 1), targets })
      }),
    values: (adapter, rows) =>
      each(rows, (row) =>
        score({ ids: row.ids, adapter, kind: "value", at: counted(row).map((t) => t - 1), targets: [] })
      ),
    scores: (adapter, rows) =>
      Effect.map(
        each(rows, (ids) => score({ ids, adapter, kind: "score", at: [ids.length - 1], targets: [] })),
        (scores) => scores.map(([x]) => x!)
      )
  }
}
