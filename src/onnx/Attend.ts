/** Attend: what tokens make of each other's values, where a single derivative or operator is cheaper than its parts. */
import * as Graph from "./Graph.ts"
import type { Dim, Value } from "./Graph.ts"
import * as Op from "./Op.ts"

/**
 * The derivative of values [..., S, d] mixed by weights softmax(scores) [..., T, S] into `mixed` [..., T, d], whose
 * gradient is given: those of the scores and of the values.
 *
 * With W the weights and Y the result, dscores = W (dW − Σ dW W), where the sum over S equals that of dY Y over d (Dao et
 * al. 2022, appendix B), which saves two passes over [T, S].
 */
export const derivative = (weights: Value, values: Value, mixed: Value, gradient: Value): readonly [Value, Value] => {
  const dweights = Op.matmul(gradient, values, { transB: true })
  const projection = Op.sum(Op.mul(gradient, mixed), [-1], true)
  return [Op.mul(weights, Op.sub(dweights, projection)), Op.outer(weights, gradient)]
}

/** How heads attend. */
export interface CausalOptions {
  readonly heads: number
  readonly kvHeads: number
  /** What queries times keys are multiplied with. */
  readonly scale: number
  /** A token sees so many tokens, itself the last of them; all before it where there is no window. */
  readonly window: number | undefined
  /**
   * Whether scores are computed block by block (Dao et al. 2022) and those of all heads never exist together: slower
   * for short rows, but a row of 15,000 tokens with 8 heads takes 1.1 GB and not 8.3.
   */
  readonly blockwise: boolean
}

/** `x` [..., W] with `more` zeros at the end of the last axis, which is a number. No gradient. */
const padLast = (x: Value, more: number): Value => {
  const lead = x.shape.slice(0, -1)
  const pads = [...x.shape.map(() => 0), ...lead.map(() => 0), more]
  const shape = [...lead, Number(x.shape.at(-1)) + more]
  return Op.one("Pad", [x, Graph.constant(x.graph, "int64", [pads.length], pads)], x.dtype, shape)
}

/**
 * Causal grouped-query attention (Ainslie et al. 2023) of whole rows without a past, in one operator: q [B, T, heads·d],
 * k and v [B, T, kvHeads·d], `last` int32 [B] = T − 1 and `total` int32 [] = T give [B, T, heads·d]. No gradient.
 */
export const causal = (
  q: Value,
  k: Value,
  v: Value,
  last: Value,
  total: Value,
  { blockwise, heads, kvHeads, scale: factor, window }: CausalOptions
): Value => {
  Op.wants("GroupQueryAttention", "float32", q, k, v)
  Op.wants("GroupQueryAttention", "int32", last, total)
  const [B, T, width] = q.shape as [Dim, Dim, number]
  const size = width / heads
  // The operator takes heads of a multiple of 8 dimensions: zeros change neither scores nor results.
  const padded = Math.ceil(size / 8) * 8
  const wide = (x: Value, count: number): Value =>
    padded === size ? x : Op.reshape(padLast(Op.reshape(x, [B, T, count, size]), padded - size), [B, T, count * padded])
  const present = { dtype: "float32", shape: [B, kvHeads, T, padded] } as const
  const attended = Graph.node(
    q.graph,
    "GroupQueryAttention",
    [wide(q, heads), wide(k, kvHeads), wide(v, kvHeads), null, null, last, total],
    // The runtime goes block by block if it has to give out keys and values, too.
    [{ dtype: "float32", shape: [B, T, heads * padded] }, ...(blockwise ? [present, present] : [])],
    {
      num_heads: { int: heads },
      kv_num_heads: { int: kvHeads },
      scale: factor,
      ...(window === undefined ? {} : { local_window_size: { int: window } })
    },
    "com.microsoft"
  )[0]!
  if (padded === size) return attended
  const [kept] = Op.split(Op.reshape(attended, [B, T, heads, padded]), -1, [size, padded - size])
  return Op.reshape(kept!, [B, T, width])
}
