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

/** The network's input. */
export interface Input {
  /** int64 [B, T], padded on the right. */
  readonly ids: Value
  /** int64 [B, T]. */
  readonly positions: Value
  /**
   * 0 where a token sees another one and a large negative number elsewhere: [T, T] for all rows alike, or [B, 1, T, T],
   * for example for several sequences in a row. Layers with a window see of it what is within the window.
   */
  readonly mask: Value | undefined
  readonly past?: Past
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
  /** The keys and values of these tokens, [B, kvHeads, T, d]; none with `whole`. */
  readonly keys?: Value
  readonly values?: Value
}

/** Attention of a layer, given its queries [B, T, heads·d], keys and values [B, T, kvHeads·d]. */
export const make = (
  config: ModelConfig,
  input: Input
): ((layer: number, q: Value, k: Value, v: Value) => Attended) => {
  const { attentionScale: scale, headDim, kvHeads } = config
  const masks = maskings(config, input)
  return (layer, q, k, v) => {
    const { past, whole } = input
    if (whole !== undefined) {
      const { window } = config.attention[layer]!
      const options = { blockwise: whole.blockwise, heads: config.heads, kvHeads, scale, window }
      return { mixed: Attend.causal(q, k, v, whole.last, whole.total, options) }
    }
    const [keys, values] = [heads(k, kvHeads, headDim), heads(v, kvHeads, headDim)]
    const queries = stack(q, input, config)
    const masking = masks(layer)
    const mixed = ((): Value => {
      const own = Op.add(Op.matmul(queries, keys, { transB: true, alpha: scale }), masking.own)
      if (past === undefined) return Attend.weighted(own, values)
      const before = Op.add(Op.matmul(queries, past.keys[layer]!, { transB: true, alpha: scale }), masking.past!)
      const [M, T] = [past.mask.shape[3]!, input.ids.shape[1]!]
      // One softmax over both, so that neither has to be scaled afterwards.
      const weights = Op.softmax(Op.concat([before, own], 3, `${M}+${T}`))
      const [onPast, onOwn] = Op.splitBy(weights, 3, past.sizes, [M, T])
      return Op.add(Op.matmul(onPast!, past.values[layer]!), Op.matmul(onOwn!, values))
    })()
    return { mixed: unstack(mixed, input, config), keys, values }
  }
}

/** What is added to the scores of stacked queries, for these tokens and for the past. */
interface Masking {
  /** [group·T, T] or [B, 1, group·T, T]. */
  readonly own: Value
  /** [B, 1, 1, M] or [B, 1, group·T, M]. */
  readonly past: Value | undefined
}

/** The masks of each layer; layers with the same window share theirs. */
const maskings = (config: ModelConfig, input: Input): ((layer: number) => Masking) => {
  const group = config.heads / config.kvHeads
  // Query heads that share a key head are stacked along the tokens, so each key head takes part in one product.
  const stackedMask = (mask: Value): Value =>
    group === 1 ? mask : Op.concat(Array<Value>(group).fill(mask), mask.shape.length - 2, stacked(input, group))
  const made = new Map<number | undefined, Masking>()
  return (layer) => {
    const { window } = config.attention[layer]!
    const known = made.get(window)
    if (known !== undefined) return known
    const { past } = input
    const mask = input.mask ?? Graph.fail(input.ids.graph, "attention", [input.ids], "it needs a mask")
    const masking =
      window === undefined
        ? { own: stackedMask(mask), past: past?.mask }
        : {
            own: stackedMask(Op.add(mask, beyond(input, keyPositions(input.positions), window))),
            past: past && stackedMask(Op.add(past.mask, beyond(input, columns(past.mask), window)))
          }
    made.set(window, masking)
    return masking
  }
}

/** A large negative number where a key [B, 1, 1, K] is `window` positions or more before a query: [B, 1, T, K]. */
const beyond = ({ ids, positions }: Input, keyPosition: Value, window: number): Value => {
  const [B, T] = [ids.shape[0]!, ids.shape[1]!]
  const queryPosition = Op.reshape(Op.cast(positions, "float32"), [B, 1, T, 1])
  const far = Op.greaterOrEqual(Op.sub(queryPosition, keyPosition), Graph.scalar(ids.graph, window))
  return Op.where(far, Graph.scalar(ids.graph, masked), Graph.scalar(ids.graph, 0))
}

/** Positions [B, T] as those of keys, [B, 1, 1, T]. */
const keyPositions = (positions: Value): Value =>
  Op.reshape(Op.cast(positions, "float32"), [positions.shape[0]!, 1, 1, positions.shape[1]!])

/** 0, 1, … along the last axis of a mask [B, 1, 1, M]. */
const columns = (mask: Value): Value => Op.shift(Op.cumsum(Op.shift(Op.zerosLike(mask), 1)), -1)

const stacked = (input: Input, group: number): Dim => `${group}*${input.ids.shape[1]}`

/** [B, T, heads·d] to [B, heads, T, d]. */
const heads = (x: Value, count: number, width: number): Value =>
  Op.transpose(Op.reshape(x, [x.shape[0]!, x.shape[1]!, count, width]), [0, 2, 1, 3])

/** Queries [B, T, heads·d] to [B, kvHeads, group·T, d]. */
const stack = (q: Value, input: Input, config: ModelConfig): Value => {
  const group = config.heads / config.kvHeads
  if (group === 1) return heads(q, config.heads, config.headDim)
  const [B, T] = [q.shape[0]!, q.shape[1]!]
  const apart = Op.transpose(Op.reshape(q, [B, T, config.kvHeads, group, config.headDim]), [0, 2, 3, 1, 4])
  return Op.reshape(apart, [B, config.kvHeads, stacked(input, group), config.headDim])
}

/** [B, kvHeads, group·T, d] back to [B, T, heads·d]. */
const unstack = (x: Value, input: Input, config: ModelConfig): Value => {
  const group = config.heads / config.kvHeads
  const [B, T] = [input.ids.shape[0]!, input.ids.shape[1]!]
  const width = config.heads * config.headDim
  if (group === 1) return Op.reshape(Op.transpose(x, [0, 2, 1, 3]), [B, T, width])
  const apart = Op.reshape(x, [B, config.kvHeads, group, T, config.headDim])
  return Op.reshape(Op.transpose(apart, [0, 3, 1, 2, 4]), [B, T, width])
}
