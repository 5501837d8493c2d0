/**
 * Ragged: sequences of different lengths side by side, and the rows in which their tokens attend.
 *
 * Linear maps see the tokens [T, 1] of a run without padding. For attention, queries stand in rows [S, L], each of which
 * sees its own tokens and, before them, those of one beginning that all its sequences have in common, if any have. Both
 * ways each token has one place, so the gradient of a gather is the gather by the inverse index: nothing is scattered.
 *
 * Tokens are along the first axis, as a row of them may be longer than any sequence that the rotary tables are for.
 */
import * as Attend from "../onnx/Attend.ts"
import * as Graph from "../onnx/Graph.ts"
import type { Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import type { ModelConfig } from "./ModelConfig.ts"
import * as RaggedHeads from "./RaggedHeads.ts"

/** Where the tokens of a run stand. `engine/Layout.ts` makes these numbers. */
export interface Ragged {
  /** int64 [S, L]: the token at each place of a row; where none is, one that nothing depends on. */
  readonly queries: Value
  /** int64 [T]: the place s·L + l of each token. */
  readonly places: Value
  /** What rows have in common; if not given, no row has anything, and sees its own tokens alone (P is 0). */
  readonly shared?: Shared
}

/** The beginnings that rows share. */
export interface Shared {
  /** int64 [S, P + L]: the tokens that a row may see, those of its beginning before its own. */
  readonly keys: Value
  /** int64 [T]: the place f·P + p of a token in beginning f; that of a beginning without rows for all others. */
  readonly beginnings: Value
  /** float32 [F, S]: 1 where a row has the beginning, else 0. */
  readonly rowsOf: Value
  /** int64 [2]: P and L, for taking the gradient of keys apart. */
  readonly sizes: Value
}

/** The inputs of a graph, for rows that may share beginnings or for rows apart. */
export const inputs = (graph: Graph.Graph, shares: boolean): Ragged => ({
  queries: Graph.input(graph, "queries", "int64", ["S", "L"]),
  places: Graph.input(graph, "places", "int64", ["T"]),
  ...(shares
    ? {
        shared: {
          keys: Graph.input(graph, "keys", "int64", ["S", "K"]),
          beginnings: Graph.input(graph, "beginnings", "int64", ["T"]),
          rowsOf: Graph.input(graph, "rows_of", "float32", ["F", "S"]),
          sizes: Graph.input(graph, "sizes", "int64", [2])
        }
      }
    : {})
})

/** What the tokens of rows make of each other. */
export interface Attention {
  /** The mask of rows [S, 1, L, P + L] by parts of their queries (see `RaggedHeads.parts`). */
  readonly masks: (mask: Value) => ReadonlyArray<Value>
  /**
   * Values mixed by tokens: queries [T, 1, heads·d], keys and values [T, 1, kvHeads·d] give [T, 1, heads·d]. The masks are
   * those of the parts, repeated for each head of a group.
   */
  readonly mixed: (q: Value, k: Value, v: Value, masks: ReadonlyArray<Value>) => Value
}

/** Grouped-query attention in rows, with a derivative by hand (see `onnx/Attend.ts`). */
export const attention = (
  of: Ragged,
  { attentionScale: alpha, heads, kvHeads }: Pick<ModelConfig, "attentionScale" | "heads" | "kvHeads">
): Attention => {
  const rows = RaggedHeads.make(of, heads, kvHeads)
  return {
    masks: rows.masks,
    mixed: (q, k, v, masks) => {
      const parts = rows.queries(q).map((queries, i) => {
        const [keys, values] = [rows.keys(k, i), rows.keys(v, i)]
        const scores = Op.add(Op.matmul(queries, keys, { transB: true, alpha }), masks[i]!)
        const weights = Op.softmax(scores)
        return { queries, keys, values, weights, mixed: Op.matmul(weights, values) }
      })
      const mixed = rows.tokens(parts.map((part) => part.mixed))
      return Graph.withGradient([q, k, v], mixed, (dy, kept) => {
        const gradients = rows.queries(dy).map((gradient, i) => {
          const { keys, mixed, queries, values, weights } = parts[i]!
          const [dscores, dvalues] = Attend.derivative(kept(weights), kept(values), kept(mixed), gradient)
          return {
            queries: Op.matmul(dscores, kept(keys), { alpha }),
            keys: Op.outer(dscores, kept(queries), alpha),
            values: dvalues
          }
        })
        return [
          rows.tokens(gradients.map(({ queries }) => queries)),
          rows.keyTokens(gradients.map(({ keys }) => keys)),
          rows.keyTokens(gradients.map(({ values }) => values))
        ]
      })
    }
  }
}
