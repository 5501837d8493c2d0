/**
 * Ragged: sequences of different lengths side by side, and the rows in which their tokens attend.
 *
 * Linear maps see the tokens [T, 1] of a run without padding. For attention, queries stand in rows [S, L], each of which
 * sees its own tokens and, before them, those of one beginning that all its sequences have in common, if any have. Both
 * ways each token has one place, so the gradient of a gather is the gather by the inverse index: nothing is scattered.
 * What is gathered are the vectors of single heads, so that heads need not be turned to the front afterwards.
 *
 * Tokens are along the first axis, as a row of them may be longer than any sequence that the rotary tables are for.
 */
import * as Attend from "../onnx/Attend.ts"
import * as Graph from "../onnx/Graph.ts"
import type { Dim, Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"

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

/** The part of a configuration that attention depends on. */
export interface Heads {
  readonly heads: number
  readonly kvHeads: number
  /** What queries times keys are multiplied with. */
  readonly attentionScale: number
}

/**
 * Rows are computed in so many parts of about the same number of queries: none but those of the last see all keys of a
 * row, so with two a quarter of the scores is never computed. Rows have at least so many places.
 */
export const parts = 2

/** What the tokens of rows make of each other. */
export interface Attention {
  /** The mask of rows [S, 1, L, P + L] by parts: [S, 1, Lᵢ, P + L₀ + … + Lᵢ]. */
  readonly masks: (mask: Value) => ReadonlyArray<Value>
  /** Values mixed by tokens: queries [T, 1, heads·d], keys and values [T, 1, kvHeads·d] give [T, 1, heads·d]. */
  readonly mixed: (q: Value, k: Value, v: Value, masks: ReadonlyArray<Value>) => Value
}

/**
 * Grouped-query attention in rows, with a derivative by hand (see `onnx/Attend.ts`). `masks` are those of the parts, with
 * the rows of the heads of a group after each other.
 */
export const attention = (of: Ragged, { attentionScale: alpha, heads, kvHeads }: Heads): Attention => {
  const ways = waysOf(of, heads, kvHeads)
  return {
    masks: (mask) => {
      const byQueries = Op.splitBy(mask, 2, ways.lengths, ways.lengthNames)
      return byQueries.map((part, i) => ways.seen(part, 3, i))
    },
    mixed: (q, k, v, masks) => {
      const made = ways.queries(q).map((queries, i) => {
        const [keys, values] = [ways.keys(k, i), ways.keys(v, i)]
        const scores = Op.add(Op.matmul(queries, keys, { transB: true, alpha }), masks[i]!)
        const weights = Op.softmax(scores)
        return { queries, keys, values, weights, mixed: Op.matmul(weights, values) }
      })
      const result = ways.tokens(made.map(({ mixed }) => mixed))
      return Graph.withGradient([q, k, v], result, (dy, kept) => {
        const gradients = ways.queries(dy).map((gradient, i) => {
          const { keys, mixed, queries, values, weights } = made[i]!
          const [dscores, dvalues] = Attend.derivative(kept(weights), kept(values), kept(mixed), gradient)
          return {
            queries: Op.matmul(dscores, kept(keys), { alpha }),
            keys: Op.outer(dscores, kept(queries), alpha),
            values: dvalues
          }
        })
        return [
          ways.tokens(gradients.map(({ queries }) => queries)),
          ways.keyTokens(gradients.map(({ keys }) => keys)),
          ways.keyTokens(gradients.map(({ values }) => values))
        ]
      })
    }
  }
}

/** The ways between the tokens of a run and the rows in which they attend, head by head. */
const waysOf = ({ places, queries, shared }: Ragged, heads: number, kvHeads: number) => {
  const { graph } = queries
  const [S, L] = queries.shape as [Dim, Dim]
  const T = places.shape[0]!
  const group = heads / kvHeads
  const integer = (n: number) => Graph.constant(graph, "int64", [1], [n])
  const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)
  /** 0, 1, … for heads. */
  const each = (shape: ReadonlyArray<number>) =>
    Graph.constant(graph, "int64", shape, numbers(shape.reduce((a, b) => a * b, 1)))
  const size = (x: Value, axis: number) => Op.gather(Op.shapeOf(x), integer(axis))

  // A part i is of queries from ends[i - 1] to ends[i], and of the keys before ends[i].
  const length = size(queries, 1)
  const ends = numbers(parts).map((i) => Op.div(Op.mul(length, integer(i + 1)), integer(parts)))
  const starts = [integer(0), ...ends.slice(0, -1)]
  const sizes = ends.map((end, i) => Op.sub(end, starts[i]!))
  const lengths = Op.concat(sizes, 0)
  const lengthNames = numbers(parts).map((i) => `L${i}`)
  const columns = shared === undefined ? length : size(shared.keys, 1)
  const before = shared === undefined ? integer(0) : Op.sub(columns, length)
  const seenBy = ends.map((end) => {
    const some = Op.add(before, end)
    return { sizes: Op.concat([some, Op.sub(columns, some)], 0), beyond: Op.sub(columns, some) }
  })
  const keyDims = [...numbers(parts - 1).map((i) => `K${i}`), shared === undefined ? L : shared.keys.shape[1]!]
  /** What a part sees of `x`, whose axis is along keys. */
  const seen = (x: Value, axis: number, part: number): Value =>
    part === parts - 1 ? x : Op.splitBy(x, axis, seenBy[part]!.sizes, [keyDims[part]!, `beyond K${part}`])[0]!

  /** The heads of tokens [A, B] are at token · count + head: [A, count, B]. */
  const ofTokens = (tokens: Value, count: number): Value => {
    const [A, B] = tokens.shape as [Dim, Dim]
    return Op.add(Op.mul(Op.reshape(tokens, [A, 1, B]), integer(count)), each([count, 1]))
  }
  const column = (x: Value): Value => Op.reshape(x, [T, 1])
  /** Place, in rows of [A, count, B], of the heads of what is at a and b: (a·count + h)·B + b, [T, count]. */
  const ofPlaces = (a: Value, b: Value, B: Value, count: number): Value => {
    const rows = Op.add(Op.mul(a, integer(count)), Op.reshape(each([count]), [1, count]))
    return Op.add(Op.mul(rows, B), b)
  }
  const row = column(Op.div(places, length))
  const within = Op.sub(column(places), Op.mul(row, length))
  const queryHeads = Op.splitBy(queries, 1, lengths, lengthNames).map((tokens, i) =>
    Op.reshape(ofTokens(tokens, heads), [S, kvHeads, group === 1 ? lengthNames[i]! : `${group}*${lengthNames[i]}`])
  )
  const everyRow = Op.mul(size(queries, 0), integer(heads))
  const queryPlaces = numbers(parts)
    .map((i) => {
      const first = Op.mul(everyRow, starts[i]!)
      return Op.add(ofPlaces(row, Op.sub(within, starts[i]!), sizes[i]!, heads), first)
    })
    .reduceRight((later, own, i) => Op.where(Op.greater(ends[i]!, within), own, later))
  const allKeys = ofTokens(shared?.keys ?? queries, kvHeads)
  const keyHeads = numbers(parts).map((i) => seen(allKeys, 2, i))
  const ownPlaces = ofPlaces(row, within, length, kvHeads)
  const inBeginnings = shared && column(Op.div(shared.beginnings, before))
  const commonPlaces =
    shared &&
    inBeginnings &&
    ofPlaces(inBeginnings, Op.sub(column(shared.beginnings), Op.mul(inBeginnings, before)), before, kvHeads)

  /** Tokens [T, 1, count·d], and rows [..., d], as the vectors of single heads [.., d]. */
  const apart = (x: Value, count: number): Value => Op.reshape(x, [Op.product([T, count]), Number(x.shape[2]) / count])
  const flat = (x: Value): Value => Op.reshape(x, [Op.product(x.shape.slice(0, -1)), x.shape.at(-1)!])
  /** The vectors of the heads of tokens [T, count, d], as [T, 1, count·d]. */
  const tokensAt = (x: Value, index: Value): Value => {
    const found = Op.gather(x, index)
    const [, count, d] = found.shape as [Dim, number, number]
    return Op.reshape(found, [T, 1, count * d])
  }
  /** Zeros for the keys that a part does not see. */
  const filled = (x: Value, part: number): Value => {
    if (part === parts - 1) return x
    const zeros = Graph.constant(
      graph,
      "int64",
      [6],
      numbers(6).map(() => 0)
    )
    const pads = Op.concat([zeros, seenBy[part]!.beyond, integer(0)], 0)
    return Op.one("Pad", [x, pads], "float32", [...x.shape.slice(0, 2), keyDims.at(-1)!, x.shape[3]!])
  }

  return {
    lengths,
    lengthNames,
    seen,
    /** Queries in rows, by parts: [S, kvHeads, group·Lᵢ, d]. */
    queries: (x: Value) => queryHeads.map((index) => Op.gather(apart(x, heads), index)),
    /** What queries in rows became, as tokens again. */
    tokens: (rows: ReadonlyArray<Value>) => {
      const vectors = rows.map(flat)
      return tokensAt(vectors.length === 1 ? vectors[0]! : Op.concat(vectors, 0, "places"), queryPlaces)
    },
    /** The keys or values that a part sees, [S, kvHeads, P + L₀ + … + Lᵢ, d]. */
    keys: (x: Value, part: number) => Op.gather(apart(x, kvHeads), keyHeads[part]!),
    /** The gradient of keys or values, of each part, for the tokens. */
    keyTokens: (rows: ReadonlyArray<Value>) => {
      const all = rows.map(filled).reduce((a, b) => Op.add(a, b))
      if (shared === undefined || commonPlaces === undefined) return tokensAt(flat(all), ownPlaces)
      const d = Number(all.shape[3])
      const [common, own] = Op.splitBy(all, 2, shared.sizes, ["P", L])
      const sums = Op.matmul(shared.rowsOf, Op.reshape(common!, [S, `${kvHeads * d}*P`]))
      const ofBeginnings = Op.reshape(sums, [`F*${kvHeads}*P`, d])
      return Op.add(tokensAt(flat(own!), ownPlaces), tokensAt(ofBeginnings, commonPlaces))
    }
  }
}
