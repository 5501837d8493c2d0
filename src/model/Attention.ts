/**
 * Attention: how the tokens of a network see each other, as nodes of a graph.
 *
 * Grouped-query attention (Ainslie et al. 2023) over the tokens of a run and over those of the past, with a causal mask
 * or any other, and in some families within a window.
 */
import * as Attend from "../onnx/Attend.ts"
import * as Graph from "../onnx/Graph.ts"
import type { Dim, Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import type { ModelConfig } from "./ModelConfig.ts"
import * as Ragged from "./Ragged.ts"

/** What the past adds to a decoding step. */
export interface Past {
  /** Keys and values of each layer, [B, kvHeads, M, headDim]; column m is the token at position m. */
  readonly keys: ReadonlyArray<Value>
  readonly values: ReadonlyArray<Value>
  /** 0 where a row's past holds a token and a large negative number elsewhere, [B, 1, 1, M]. */
  readonly mask: Value
  /** [M, T] as int64, for splitting the attention weights. */
  readonly sizes: Value
}

/** A past that one new token of each row is joined to before they attend, so that it can be the next token's past. */
export interface Growing {
  /** Keys and values of each layer, [B, kvHeads, S, headDim]. */
  readonly keys: ReadonlyArray<Value>
  readonly values: ReadonlyArray<Value>
  /** 0 where a column holds a token of the row, the last its new one, a large negative number elsewhere: [B, 1, 1, S+1]. */
  readonly mask: Value
  /** The position of the token of each column, float32 [B, 1, 1, S+1]. */
  readonly positions: Value
}

/** The network's input. */
export interface Input {
  /** int64 [B, T], padded on the right. */
  readonly ids: Value
  /** int64 [B, T]. */
  readonly positions: Value
  /**
   * 0 where a token sees another one and a large negative number elsewhere: [T, T] for all rows alike, or that of the
   * rows of `ragged`, [S, 1, L, P + L]. Layers with a window see of it what is within the window.
   */
  readonly mask: Value | undefined
  readonly past?: Past
  /** What stands for `mask` and `past` where the keys and values that come back are those of the past, too. T is 1. */
  readonly growing?: Growing
  /** The rows in which tokens [T, 1] attend that stand side by side. There is no `past` then. */
  readonly ragged?: Ragged.Ragged
  /**
   * Sizes for attention in one operator, which has no gradient, knows no past and takes no mask but the causal one:
   * int32 [B] = T − 1, and int32 [] = T; `blockwise` for long rows. There is no `mask` then.
   */
  readonly whole?: { readonly last: Value; readonly total: Value; readonly blockwise: boolean }
}

/** What stands for minus infinity in masks: far below any score, and finite, so that no row of softmax is NaN. */
export const masked = -1e9

/** What a layer's tokens made of each other. */
export interface Attended {
  /** [B, T, heads·d]. */
  readonly mixed: Value
  /**
   * The keys and values of these tokens, [B, kvHeads, T, d], or with `growing` of all so far; none with `whole` and
   * `ragged`.
   */
  readonly keys?: Value
  readonly values?: Value
}

/** Attention of a layer, given its queries [B, T, heads·d], keys and values [B, T, kvHeads·d]. */
export const make = (
  config: ModelConfig,
  input: Input
): ((layer: number, q: Value, k: Value, v: Value) => Attended) => {
  const { attentionScale: scale, headDim, kvHeads } = config
  const { growing, past, ragged, whole } = input
  const rows = ragged && Ragged.attention(ragged, config)
  const onValues = past === undefined ? Op.matmul : valuesOf(past, config)
  const masks = maskings(config, input, rows)
  /** Values mixed for stacked queries: [B, kvHeads, group·T, d]. */
  const mix = (layer: number, queries: Value, keys: Value, values: Value): Value => {
    const masking = masks(layer)
    const own = Op.add(Op.matmul(queries, keys, { transB: true, alpha: scale }), masking.own[0]!)
    if (past === undefined) return Op.matmul(Op.softmax(own), values)
    const before = Op.add(Op.matmul(queries, past.keys[layer]!, { transB: true, alpha: scale }), masking.past!)
    const [M, T] = [past.mask.shape[3]!, keys.shape[2]!]
    // One softmax over both, so that neither has to be scaled afterwards.
    const weights = Op.softmax(Op.concat([before, own], 3, `${M}+${T}`))
    const [onPast, onOwn] = Op.splitBy(weights, 3, past.sizes, [M, T])
    return Op.add(onValues(onPast!, past.values[layer]!), Op.matmul(onOwn!, values))
  }
  return (layer, q, k, v) => {
    if (whole !== undefined) {
      const { window } = config.attention[layer]!
      const options = { blockwise: whole.blockwise, heads: config.heads, kvHeads, scale, window }
      return { mixed: Attend.causal(q, k, v, whole.last, whole.total, options) }
    }
    if (rows !== undefined) return { mixed: rows.mixed(q, k, v, masks(layer).own) }
    const all = (own: Value, of: "keys" | "values"): Value =>
      growing === undefined ? own : Op.concat([growing[of][layer]!, own], 2, growing.mask.shape[3]!)
    const keys = all(heads(k, kvHeads, headDim), "keys")
    const values = all(heads(v, kvHeads, headDim), "values")
    return { mixed: unstack(mix(layer, stack(q, config), keys, values), q, config), keys, values }
  }
}

/**
 * Weights [B, kvHeads, group·T, M] by values of the past [B, kvHeads, M, d]: [B, kvHeads, group·T, d].
 *
 * Where there is one new token, each query head is a product of its own: a vector is multiplied with the values as they
 * lie, but for the few rows of a group the runtime would first copy them into another order. Not where all heads share
 * one key head: the runtime puts their vectors together again where B is 1, and a row would have other bits alone than
 * among others.
 */
const valuesOf = (
  { mask, sizes }: Past,
  { heads, kvHeads }: ModelConfig
): ((weights: Value, values: Value) => Value) => {
  if (heads === kvHeads || kvHeads === 1) return Op.matmul
  const integer = (n: number) => Graph.constant(mask.graph, "int64", [1], [n])
  const [M, T] = Op.split(sizes, 0, [1, 1]) as [Value, Value]
  const group = integer(heads / kvHeads)
  const products = Op.where(Op.equal(T, integer(1)), group, integer(1))
  const queries = Op.div(Op.mul(T, group), products)
  const apart = Op.concat([Op.gather(Op.shapeOf(mask), integer(0)), integer(kvHeads), products, queries, M], 0)
  return (weights, values) => {
    const [B, , rows, columns] = weights.shape as [Dim, number, Dim, Dim]
    const d = values.shape[3]!
    const shape = [B, kvHeads, "products", "queries", columns]
    // A size of 0 is that of an empty past.
    const own = Op.one("Reshape", [weights, apart], weights.dtype, shape, { allowzero: { int: 1 } })
    return Op.reshape(Op.matmul(own, Op.reshape(values, [B, kvHeads, 1, columns, d])), [B, kvHeads, rows, d])
  }
}

/** What is added to the scores of stacked queries, for these tokens and for the past. */
interface Masking {
  /** [group·T, T], or of a growing past [B, 1, 1, S+1] or [B, 1, group, S+1]; of rows those of their parts. */
  readonly own: ReadonlyArray<Value>
  /** [B, 1, 1, M] or [B, 1, group·T, M]. */
  readonly past: Value | undefined
}

/** The masks of each layer; layers with the same window share theirs. */
const maskings = (
  config: ModelConfig,
  input: Input,
  rows: Ragged.Attention | undefined
): ((layer: number) => Masking) => {
  const group = config.heads / config.kvHeads
  // Query heads that share a key head are stacked along the tokens, so each key head takes part in one product.
  const stackedMask = (mask: Value): Value => {
    const axis = mask.shape.length - 2
    return group === 1 ? mask : Op.concat(Array<Value>(group).fill(mask), axis, stacked(mask.shape[axis]!, group))
  }
  const own = (mask: Value): ReadonlyArray<Value> => (rows?.masks(mask) ?? [mask]).map(stackedMask)
  const made = new Map<number | undefined, Masking>()
  return (layer) => {
    const { window } = config.attention[layer]!
    const known = made.get(window)
    if (known !== undefined) return known
    const { growing, past } = input
    const mask = growing?.mask ?? input.mask ?? Graph.fail(input.ids.graph, "attention", [input.ids], "it needs a mask")
    const masking = ((): Masking => {
      if (window === undefined) return { own: own(mask), past: past?.mask }
      const { keys, queries } = positions(input)
      const within = (mask: Value, keyPosition: Value) => Op.add(mask, beyond(queries, keyPosition, window))
      return {
        own: own(within(mask, growing?.positions ?? Op.reshape(keys, [keys.shape[0]!, 1, 1, keys.shape[1]!]))),
        past: past && stackedMask(within(past.mask, columns(past.mask)))
      }
    })()
    made.set(window, masking)
    return masking
  }
}

/** The positions of the queries and of the keys of a run: [B, T] both, or those of rows, [S, L] and [S, P + L]. */
const positions = ({ positions, ragged }: Input): { readonly queries: Value; readonly keys: Value } => {
  const of = Op.cast(positions, "float32")
  if (ragged === undefined) return { queries: of, keys: of }
  const tokens = Op.reshape(of, [of.shape[0]!])
  const keys = ragged.shared?.keys ?? ragged.queries
  return { queries: Op.gather(tokens, ragged.queries), keys: Op.gather(tokens, keys) }
}

/** A large negative number where a key [B, 1, 1, K] is `window` positions or more before a query [B, T]: [B, 1, T, K]. */
const beyond = (queries: Value, keys: Value, window: number): Value => {
  const { graph } = queries
  const [B, T] = queries.shape as [Dim, Dim]
  const far = Op.greaterOrEqual(Op.sub(Op.reshape(queries, [B, 1, T, 1]), keys), Graph.scalar(graph, window))
  return Op.where(far, Graph.scalar(graph, masked), Graph.scalar(graph, 0))
}

/** 0, 1, … along the last axis of a mask [B, 1, 1, M]. */
export const columns = (mask: Value): Value => Op.shift(Op.cumsum(Op.shift(Op.zerosLike(mask), 1)), -1)

const stacked = (tokens: Dim, group: number): Dim =>
  typeof tokens === "number" ? group * tokens : `${group}*${tokens}`

/** [B, T, heads·d] to [B, heads, T, d]; of one token the numbers stay where they are. */
const heads = (x: Value, count: number, width: number): Value => {
  const [B, T] = x.shape as [Dim, Dim, Dim]
  if (T === 1) return Op.reshape(x, [B, count, T, width])
  return Op.transpose(Op.reshape(x, [B, T, count, width]), [0, 2, 1, 3])
}

/** Queries [B, T, heads·d] to [B, kvHeads, group·T, d]. */
const stack = (q: Value, { headDim, heads: count, kvHeads }: ModelConfig): Value => {
  const group = count / kvHeads
  if (group === 1) return heads(q, count, headDim)
  const [B, T] = q.shape as [Dim, Dim, Dim]
  if (T === 1) return Op.reshape(q, [B, kvHeads, group, headDim])
  const apart = Op.transpose(Op.reshape(q, [B, T, kvHeads, group, headDim]), [0, 2, 3, 1, 4])
  return Op.reshape(apart, [B, kvHeads, stacked(T, group), headDim])
}

/** [B, kvHeads, group·T, d] back to [B, T, heads·d], as the queries q were. */
const unstack = (x: Value, q: Value, { headDim, heads: count, kvHeads }: ModelConfig): Value => {
  const group = count / kvHeads
  const [B, T] = q.shape as [Dim, Dim, Dim]
  const width = count * headDim
  if (T === 1) return Op.reshape(x, [B, T, width])
  if (group === 1) return Op.reshape(Op.transpose(x, [0, 2, 1, 3]), [B, T, width])
  const apart = Op.reshape(x, [B, kvHeads, group, T, headDim])
  return Op.reshape(Op.transpose(apart, [0, 3, 1, 2, 4]), [B, T, width])
}
