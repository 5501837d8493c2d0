/**
 * Quantize: products of activations and frozen weights in 8 bits.
 *
 * Activations are quantised as they come, each row by itself; weights once, when a checkpoint is opened (see
 * `model/Quantized.ts`).
 */
import * as Graph from "./Graph.ts"
import type { Value } from "./Graph.ts"
import * as Op from "./Op.ts"

/** Rows of 8-bit codes: a row is (codes − 128) · scale. */
export interface Rows {
  /** uint8 [..., K]; the zero point is 128 everywhere. */
  readonly codes: Value
  /** float32 [..., 1]. */
  readonly scale: Value
}

const known = new WeakMap<Value, Rows>()

/**
 * Each row of x [..., K] as 8-bit codes with a scale of its own, max |x| / 127, so that a row's codes do not depend on
 * what other rows there are. Products with the same x share them. No gradient.
 */
export const rows = (x: Value): Rows => {
  const made = known.get(x) ?? quantized(x)
  known.set(x, made)
  return made
}

const quantized = (x: Value): Rows => {
  Op.wants("QuantizeRows", "float32", x)
  const axis = x.shape.length - 1
  const width = x.shape[axis]!
  if (typeof width !== "number") return Graph.fail(x.graph, "QuantizeRows", [x], "the last axis must be a number")
  const column = [...x.shape.slice(0, -1), 1]
  const last = Graph.constant(x.graph, "int64", [1], [axis])
  const lowest = Op.one("ReduceMin", [x, last], "float32", column, { keepdims: { int: 1 } })
  // A row of zeros must not be divided by zero.
  const largest = Op.one(
    "Max",
    [Op.max(x, [-1], true), Op.neg(lowest), Graph.scalar(x.graph, 1e-30)],
    "float32",
    column
  )
  const steps = Op.scale(largest, 1 / 127)
  // A block of the operator is a row.
  const block = { axis: { int: axis }, block_size: { int: width } }
  return {
    codes: Op.one("QuantizeLinear", [x, steps, zeroPoints(steps)], "uint8", x.shape, block),
    scale: steps
  }
}

/** A zero point of 128 for each entry of `steps`; tensors of one shape share theirs. */
const zeroPoints = (steps: Value): Value => {
  const { constants } = steps.graph
  const key = `zero points:${steps.shape.join(",")}`
  const made =
    constants.get(key) ??
    Op.one("Expand", [Graph.constant(steps.graph, "uint8", [1], [128]), Op.shapeOf(steps)], "uint8", steps.shape)
  constants.set(key, made)
  return made
}

/**
 * x [..., K], quantised, by int8 weights [K, N] with a scale for each column [N]: float32 [..., N].
 *
 * The codes are unsigned and the weights signed, because that is what the processor's 8-bit units multiply. The gradient
 * goes to x as if it had not been quantised, and is computed in 8 bits, too: dx = (dy · scales) Wᵀ.
 */
export const matmul = (x: Value, weights: Value, scales: Value): Value => {
  const { graph } = x
  const [K, N] = weights.shape
  if (weights.dtype !== "int8" || weights.shape.length !== 2 || K !== x.shape.at(-1) || scales.shape[0] !== N) {
    Graph.fail(graph, "MatMulInteger", [x, weights, scales], "it takes [..., K], int8 [K, N] and [N]")
  }
  const unit = Graph.scalar(graph, 1)
  const multiply = (left: Value, by: Value, scaleOf: Value): Value => {
    const { codes, scale } = rows(left)
    const inputs = [codes, by, unit, scaleOf, Graph.constant(graph, "uint8", [], [128])]
    const shape = [...left.shape.slice(0, -1), by.shape[1]!]
    return Op.mul(Op.one("MatMulIntegerToFloat", inputs, "float32", shape, {}, "com.microsoft"), scale)
  }
  return Graph.withGradient([x], multiply(x, weights, scales), (dy) => [
    multiply(Op.mul(dy, scales), Op.transpose(weights, [1, 0]), unit)
  ])
}
