/**
 * Ragged: sequences of different lengths side by side, and the rows in which their tokens attend.
 *
 * Linear maps see the tokens [T, 1] of a run without padding. For attention, queries stand in rows [S, L], each of which
 * sees its own tokens and, before them, those of one beginning that all its sequences have in common. Both ways each
 * token has one place, so the gradient of a gather is the gather by the inverse index: nothing is scattered.
 *
 * Tokens are along the first axis, as a row of them may be longer than any sequence that the rotary tables are for.
 */
import * as Graph from "../onnx/Graph.ts"
import type { Dim, Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"

/** Where the tokens of a run stand. `engine/Layout.ts` makes these numbers. */
export interface Ragged {
  /** int64 [S, L]: the token at each place of a row; where none is, one that nothing depends on. */
  readonly queries: Value
  /** int64 [S, P + L]: the tokens that a row may see, those of its beginning before its own. */
  readonly keys: Value
  /** int64 [T]: the place s·L + l of each token. */
  readonly places: Value
  /** int64 [T]: the place f·P + p of a token in beginning f; that of a beginning without rows for all others. */
  readonly beginnings: Value
  /** float32 [F, S]: 1 where a row has the beginning, else 0. */
  readonly rowsOf: Value
  /** int64 [2]: P and L, for taking the gradient of keys apart. */
  readonly sizes: Value
}

/** The inputs of a graph. */
export const inputs = (graph: Graph.Graph): Ragged => ({
  queries: Graph.input(graph, "queries", "int64", ["S", "L"]),
  keys: Graph.input(graph, "keys", "int64", ["S", "K"]),
  places: Graph.input(graph, "places", "int64", ["T"]),
  beginnings: Graph.input(graph, "beginnings", "int64", ["T"]),
  rowsOf: Graph.input(graph, "rows_of", "float32", ["F", "S"]),
  sizes: Graph.input(graph, "sizes", "int64", [2])
})

/** Tokens [T, 1, W] as [T, W], and rows [A, B, W] as [A·B, W]. */
const flat = (x: Value): Value => {
  const [A, B, W] = x.shape as [Dim, Dim, Dim]
  return Op.reshape(x, [B === 1 ? A : `${A}*${B}`, W])
}

/** Rows of [..., W] for the tokens, as [T, 1, W]. */
const tokens = (rows: Value, places: Value): Value => {
  const found = Op.gather(rows, places)
  return Op.reshape(found, [found.shape[0]!, 1, found.shape[1]!])
}

/** Queries [T, 1, W] in rows: [S, L, W]. */
export const queries = (of: Ragged, x: Value): Value =>
  Graph.withGradient([x], Op.gather(flat(x), of.queries), (dy) => [tokens(flat(dy), of.places)])

/** Keys or values [T, 1, W] in rows, after those of the rows' beginnings: [S, P + L, W]. */
export const keys = (of: Ragged, x: Value): Value =>
  Graph.withGradient([x], Op.gather(flat(x), of.keys), (dy) => {
    const [S, , W] = dy.shape as [Dim, Dim, Dim]
    const [before, own] = Op.splitBy(dy, 1, of.sizes, ["P", of.queries.shape[1]!])
    const sums = Op.matmul(of.rowsOf, Op.reshape(before!, [S, `P*${W}`]))
    return [Op.add(tokens(flat(own!), of.places), tokens(Op.reshape(sums, ["F*P", W]), of.beginnings))]
  })

/** Rows [S, L, W] as tokens again: [T, 1, W]. */
export const side = (of: Ragged, x: Value): Value =>
  Graph.withGradient([x], tokens(flat(x), of.places), (dy) => [Op.gather(flat(dy), of.queries)])
