/**
 * ObjectiveTerms: what losses are made of. Means are sums with weights that the caller has divided by the whole
 * batch's total, so a batch cut into micro-batches gives exactly the same loss, metrics and gradients.
 */
import * as Graph from "../onnx/Graph.ts"
import type { Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import type { Objective, Outputs, Result } from "./Objective.ts"

/** An objective whose `build` can ask for the inputs that it declares and for no others. */
export const make = <Inputs extends Objective["inputs"]>(objective: {
  readonly name: string
  readonly inputs: Inputs
  readonly build: (outputs: Outputs, inputs: { readonly [Name in keyof Inputs]: Value }) => Result
}): Objective => objective as Objective

/** A number for each token that counts [N]. */
export const perToken = { dtype: "float32", shape: ["N"] } as const
/** A number for each pair [P]. */
export const perPair = { dtype: "float32", shape: ["P"] } as const
/** A number for each sequence [S]. */
export const perSequence = { dtype: "float32", shape: ["S"] } as const
/** For each token the number of its sequence [N]. */
export const sequenceOf = { dtype: "int64", shape: ["N"] } as const
/** For each pair the number of one of its sequences [P]. */
export const pairOf = { dtype: "int64", shape: ["P"] } as const

/** Σ w·x, a scalar. */
export const mean = (x: Value, weights: Value): Value => Op.sumAll(Op.mul(x, weights))

/** 1 where the condition holds, else 0. */
export const indicator = (condition: Value): Value =>
  Op.where(condition, Graph.scalar(condition.graph, 1), Graph.scalar(condition.graph, 0))

/** x · x */
export const square = (x: Value): Value => Op.mul(x, x)

/** The sum of each sequence's tokens: x [N] with `sequence` [N] to [S], the shape of `like`. */
export const sums = (x: Value, sequence: Value, like: Value): Value =>
  Graph.withGradient([x], Op.scatterAddElements(Op.zerosLike(like), sequence, x), (dy) => [Op.gather(dy, sequence)])

/**
 * The clipped surrogate of Schulman et al. 2017, eq. 7, as a loss for each entry: max(−A r, −A clip(r, 1 ± ε)), with the
 * ratio r of the new policy's probability to the old one's.
 */
export const clippedSurrogate = (ratio: Value, advantages: Value, clip: number): Value => {
  const gain = Op.neg(advantages)
  return Op.maximum(Op.mul(gain, ratio), Op.mul(gain, Op.clip(ratio, 1 - clip, 1 + clip)))
}

/** 1 for each ratio outside of 1 ± ε: where the clip is in force, `clipfrac` is the share of these. */
export const outside = (ratio: Value, clip: number): Value =>
  indicator(Op.greater(Op.abs(Op.shift(ratio, -1)), Graph.scalar(ratio.graph, clip)))

/** The k3 estimate e^{−d} − 1 + d of KL(π ‖ ρ) for each token, d = log π − log ρ (http://joschu.net/blog/kl-approx.html). */
export const k3 = (d: Value): Value => Op.add(Op.shift(Op.exp(Op.neg(d)), -1), d)
