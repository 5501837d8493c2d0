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
  // A row of zeros must not be divided by zero.
  const largest = Op.maximum(Op.max(Op.abs(x), [-1], true), Graph.scalar(x.graph, 1e-30))
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

/**
 * The columns of a block of {@link mixture}, about a thousand; as many as a result has, where those are more, so that the
 * blocks' products are no larger than what is multiplied. Undefined where no fit number of columns divides the width.
 */
const blockWidth = (width: number, columns: number): number | undefined => {
  const wanted = Math.max(1024, columns)
  const far = (n: number) => Math.abs(Math.log(n / wanted))
  return Array.from({ length: 4 * wanted }, (_, i) => i + 1)
    .filter((n) => width % n === 0 && (4 * n >= wanted || n === width))
    .reduce<number | undefined>((a, b) => (a === undefined || far(b) < far(a) ? b : a), undefined)
}

/** Numbers in [0, 1), spread as evenly as can be: multiples of the golden ratio (Weyl's sequence). */
const dither = (length: number): Float32Array =>
  Float32Array.from({ length }, (_, i) => Math.min((i * 0.6180339887498949) % 1, 1 - 2 ** -24))

/**
 * Rows p [N, V] of probabilities, quantised, by W [V, H], whose transpose is given as int8 weights [H, V] with a scale
 * for each column [V]: p W [N, H]. Undefined where V has no divisor that is fit for a block. No gradient.
 *
 * A row has few large probabilities and thousands of small ones, which steps of a 254th of the largest would make zeros.
 * So each block of a row has a scale of its own, and rounding is dithered (Roberts 1962): what is between two codes
 * becomes the upper one as often as it is near it. Small errors that all tokens share would add up in a gradient.
 */
export const mixture = (p: Value, weights: Value, scales: Value): Value | undefined => {
  const { graph } = p
  const [N, V] = p.shape as [Graph.Dim, number]
  const H = Number(weights.shape[0])
  if (weights.dtype !== "int8" || weights.shape[1] !== V || scales.shape[0] !== V) {
    return Graph.fail(graph, "MatMulInteger", [p, weights, scales], "it takes [N, V], int8 [H, V] and [V]")
  }
  const width = blockWidth(V, H)
  if (width === undefined) return undefined
  const count = V / width
  const blocks = Op.reshape(Op.mul(p, scales), [N, count, width])
  // One step less than there are, as rounding may add one; a block of zeros must not be divided by zero.
  const steps = Op.maximum(Op.scale(Op.max(blocks, [2], true), 1 / 254), Graph.scalar(graph, 1e-30))
  const offsets = Graph.constant(graph, "float32", [count, width], dither(V))
  const codes = Op.cast(Op.add(Op.div(blocks, steps), offsets), "uint8")
  // One product for each block: [count, N, width] by [count, width, H].
  const turned = (x: Value) => Op.transpose(x, [1, 0, 2])
  const parts = Op.reshape(Op.transpose(weights, [1, 0]), [count, width, H])
  const unit = Graph.scalar(graph, 1)
  const inputs = [turned(codes), parts, unit, unit, Graph.constant(graph, "uint8", [], [0])]
  const products = Op.one("MatMulIntegerToFloat", inputs, "float32", [count, N, H], {}, "com.microsoft")
  return Op.sum(Op.mul(products, turned(steps)), [0])
}
