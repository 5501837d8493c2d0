/**
 * RaggedHeads: the ways between the tokens of a run and the rows in which they attend, head by head (see `Ragged.ts`).
 *
 * What is gathered are the vectors of single heads, whose places are computed once in a run: heads come to stand in front
 * of the tokens in the same step, where gathering tokens and turning their axes would go through memory twice.
 */
import * as Graph from "../onnx/Graph.ts"
import type { Dim, Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import type { Ragged } from "./Ragged.ts"

/**
 * The queries of rows that share nothing are computed in so many parts, each about as long: part i has Lᵢ of them, and
 * sees L₀ + … + Lᵢ keys. So a quarter of the scores, which no token may see, is never computed; more and smaller parts cost
 * more than they save, and so do two in the shorter rows of answers behind a shared beginning, which are one part.
 *
 * Rows have at least so many places: the gradient of the keys of a part without queries is a batch of products over
 * nothing, which the runtime leaves as its memory was.
 */
export const parts = 2

/** Ways from tokens to rows and back. */
export interface RaggedHeads {
  /** A mask [S, 1, L, P + L] by parts: [S, 1, Lᵢ, L₀ + … + Lᵢ], or the whole of it. */
  readonly masks: (mask: Value) => ReadonlyArray<Value>
  /** Queries [T, 1, heads·d] in rows, by parts, those of a group's heads after each other: [S, kvHeads, group·Lᵢ, d]. */
  readonly queries: (x: Value) => ReadonlyArray<Value>
  /** What queries in rows became, as tokens again. It is the inverse, and so the gradient, of `queries`. */
  readonly tokens: (rows: ReadonlyArray<Value>) => Value
  /** The keys or values [T, 1, kvHeads·d] that a part sees: [S, kvHeads, L₀ + … + Lᵢ, d], or P + L of them. */
  readonly keys: (x: Value, part: number) => Value
  /** The gradient of keys or values, given that of each part. */
  readonly keyTokens: (rows: ReadonlyArray<Value>) => Value
}

/** The ways of a run. */
export const make = ({ places, queries, shared }: Ragged, heads: number, kvHeads: number): RaggedHeads => {
  const { graph } = queries
  const [S, L] = queries.shape as [Dim, Dim]
  const T = places.shape[0]!
  const group = heads / kvHeads
  const partCount = shared === undefined ? parts : 1
  const last = partCount - 1
  const integer = (n: number) => Graph.constant(graph, "int64", [1], [n])
  const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)
  const column = (x: Value): Value => Op.reshape(x, [T, 1])

  // A part is of queries from its start to its end, and of the keys before its end.
  const names = numbers(partCount).map((i) => `L${i}`)
  const [rows, length] = [0, 1].map((axis) => Op.gather(Op.shapeOf(queries), integer(axis))) as [Value, Value]
  const ends = numbers(partCount).map((i) => Op.div(Op.mul(length, integer(i + 1)), integer(partCount)))
  const starts = [integer(0), ...ends.slice(0, last)]
  const sizes = ends.map((end, i) => Op.sub(end, starts[i]!))
  const byPart = (x: Value, axis: number) => Op.splitBy(x, axis, Op.concat(sizes, 0), names)
  const keyDims = [...numbers(last).map((i) => `K${i}`), shared === undefined ? L : shared.keys.shape[1]!]
  const unseen = ends.map((end) => Op.sub(length, end))
  /** What a part sees of `x`, which has an axis along keys. */
  const seen = (x: Value, axis: number, part: number): Value => {
    if (part === last) return x
    return Op.splitBy(x, axis, Op.concat([ends[part]!, unseen[part]!], 0), [
      keyDims[part]!,
      `beyond ${keyDims[part]}`
    ])[0]!
  }
  /** Zeros in the place of keys that a part does not see. */
  const filled = (x: Value, part: number): Value => {
    if (part === last) return x
    const none = Graph.constant(graph, "int64", [6], [0, 0, 0, 0, 0, 0])
    const pads = Op.concat([none, unseen[part]!, integer(0)], 0)
    return Op.one("Pad", [x, pads], x.dtype, [...x.shape.slice(0, 2), keyDims[last]!, x.shape[3]!])
  }

  /** Where the heads of tokens [A, B] are among those of all: at token · count + head, [A, count, B]. */
  const headsOf = (tokens: Value, count: number): Value => {
    const [A, B] = tokens.shape as [Dim, Dim]
    const first = Op.mul(Op.reshape(tokens, [A, 1, B]), integer(count))
    return Op.add(first, Graph.constant(graph, "int64", [count, 1], numbers(count)))
  }
  /** Where head h of what is at (a, b) is in rows of [.., count, B]: at (a · count + h) · B + b, [T, count]. */
  const inRows = (a: Value, b: Value, B: Value, count: number): Value => {
    const row = Op.add(Op.mul(a, integer(count)), Graph.constant(graph, "int64", [1, count], numbers(count)))
    return Op.add(Op.mul(row, B), b)
  }
  const quotient = (x: Value, by: Value) => {
    const whole = Op.div(column(x), by)
    return { whole, rest: Op.sub(column(x), Op.mul(whole, by)) }
  }

  const queryHeads = byPart(queries, 1).map((tokens, i) =>
    Op.reshape(headsOf(tokens, heads), [S, kvHeads, group === 1 ? names[i]! : `${group}*${names[i]}`])
  )
  const allKeys = headsOf(shared?.keys ?? queries, kvHeads)
  const keyHeads = numbers(partCount).map((part) => seen(allKeys, 2, part))
  const { rest: within, whole: row } = quotient(places, length)
  // The vectors of a part stand behind those of the parts before.
  const queryPlaces = numbers(partCount)
    .map((i) => {
      const behind = Op.mul(Op.mul(rows, integer(heads)), starts[i]!)
      return Op.add(behind, inRows(row, Op.sub(within, starts[i]!), sizes[i]!, heads))
    })
    .reduceRight((later, own, i) => Op.where(Op.greater(ends[i]!, within), own, later))
  const keyPlaces = inRows(row, within, length, kvHeads)

  /** The vectors of the heads of tokens, [T · count, d]. */
  const vectors = (x: Value, count: number): Value =>
    Op.reshape(x, [Op.product([T, count]), Number(x.shape[2]) / count])
  const flat = (x: Value): Value => Op.reshape(x, [Op.product(x.shape.slice(0, -1)), x.shape.at(-1)!])
  /** Of vectors [.., d] those of the heads of each token, [T, 1, count · d]. */
  const gathered = (x: Value, at: Value): Value => {
    const found = Op.gather(x, at)
    const [, count, d] = found.shape as [Dim, number, number]
    return Op.reshape(found, [T, 1, count * d])
  }

  return {
    masks: (mask) => byPart(mask, 2).map((part, i) => seen(part, 3, i)),
    queries: (x) => queryHeads.map((at) => Op.gather(vectors(x, heads), at)),
    tokens: (rows) =>
      gathered(rows.length === 1 ? flat(rows[0]!) : Op.concat(rows.map(flat), 0, "places"), queryPlaces),
    keys: (x, part) => Op.gather(vectors(x, kvHeads), keyHeads[part]!),
    keyTokens: (rows) => {
      const all = rows.map(filled).reduce((a, b) => Op.add(a, b))
      if (shared === undefined) return gathered(flat(all), keyPlaces)
      const d = all.shape[3]!
      const [common, own] = Op.splitBy(all, 2, shared.sizes, ["P", L])
      const sums = Op.matmul(shared.rowsOf, Op.reshape(common!, [S, `${kvHeads * Number(d)}*P`]))
      const before = Op.gather(shared.sizes, integer(0))
      const { rest, whole } = quotient(shared.beginnings, before)
      const ofBeginnings = gathered(Op.reshape(sums, [`F*${kvHeads}*P`, d]), inRows(whole, rest, before, kvHeads))
      return Op.add(gathered(flat(own!), keyPlaces), ofBeginnings)
    }
  }
}
