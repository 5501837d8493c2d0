/**
 * Objective: what a training minimises, as a value.
 *
 * An objective is a function from the program's outputs to a scalar loss and named metrics, written with the operators
 * of `onnx/Op`; its gradient comes from `onnx/Gradient`. Means are sums with weights that the caller has divided by
 * the whole batch's total, so a batch cut into micro-batches gives exactly the same loss, metrics and gradients.
 */
import * as Graph from "../onnx/Graph.ts"
import type { DType, Shape, Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"

/** What a learning program can compute for an objective: N tokens that count, S scored sequences. */
export interface Outputs {
  /** log p of each target token given those before it, nats [N]. */
  readonly logprobs: () => Value
  /** The value head's prediction at each of these tokens [N]; no gradient reaches the network through it. */
  readonly values: () => Value
  /** The score head's scalar for each sequence, read on its last token [S]. */
  readonly scores: () => Value
}

/** A loss to be minimised and the metrics reported beside it, all scalars. */
export interface Result {
  readonly loss: Value
  readonly metrics: Readonly<Record<string, Value>>
}

/** An objective: the tensors it needs from the data, by name, and what it makes of them. */
export interface Objective {
  readonly name: string
  readonly inputs: Readonly<Record<string, { readonly dtype: DType; readonly shape: Shape }>>
  readonly build: (outputs: Outputs, inputs: Readonly<Record<string, Value>>) => Result
}

/** Σ w·x */
const mean = (x: Value, weights: Value): Value => Op.sumAll(Op.mul(x, weights))

const perToken = { dtype: "float32", shape: ["N"] } as const
const perPair = { dtype: "float32", shape: ["P"] } as const

/** 1 where the condition holds, else 0. */
const indicator = (condition: Value): Value =>
  Op.where(condition, Graph.scalar(condition.graph, 1), Graph.scalar(condition.graph, 0))

/**
 * Cross-entropy: L = −Σ wᵢ log p(xᵢ). With equal weights over the unmasked tokens it is the mean negative
 * log-likelihood, Hugging Face's loss.
 */
export const sft: Objective = {
  name: "sft",
  inputs: { weights: perToken },
  build: (outputs, { weights }) => ({ loss: Op.neg(mean(outputs.logprobs(), weights!)), metrics: {} })
}

/**
 * Bradley-Terry with soft labels: d = s(first) − s(second) − margin,
 * L = Σ wᵢ [t softplus(−d) + (1 − t) softplus(d)], the cross-entropy of σ(d) against t = P(first preferred)
 * (Bai et al. 2022, section 4.1; margin as in Touvron et al. 2023, section 3.2.2).
 *
 * `first` and `second` index the scored sequences. Metric: `accuracy`, the share of pairs that d ranks as the
 * label does: by the margin, where there is one.
 */
export const bradleyTerry: Objective = {
  name: "bradleyTerry",
  inputs: {
    first: { dtype: "int64", shape: ["P"] },
    second: { dtype: "int64", shape: ["P"] },
    target: perPair,
    margin: perPair,
    weights: perPair
  },
  build: (outputs, { first, margin, second, target, weights }) => {
    const scores = outputs.scores()
    const d = Op.sub(Op.sub(Op.gather(scores, first!), Op.gather(scores, second!)), margin!)
    const one = Graph.scalar(d.graph, 1)
    const half = Graph.scalar(d.graph, 0.5)
    const losses = Op.add(Op.mul(target!, Op.softplus(Op.neg(d))), Op.mul(Op.sub(one, target!), Op.softplus(d)))
    const agrees = Op.sub(
      one,
      Op.abs(Op.sub(indicator(Op.greater(d, Graph.scalar(d.graph, 0))), indicator(Op.greater(target!, half))))
    )
    return { loss: mean(losses, weights!), metrics: { accuracy: mean(agrees, weights!) } }
  }
}

/** The constants of proximal policy optimisation. */
export interface PpoOptions {
  /** The policy's ratio counts within 1 ± clip. */
  readonly clip: number
  /** A value counts within ± valueClip of its old one. */
  readonly valueClip: number
  readonly valueCoefficient: number
}

/**
 * Proximal policy optimisation with a clipped value loss (Schulman et al. 2017, eq. 7 and 9; the value clip as in
 * https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/, detail 9):
 * r = exp(log π − log π_old), L_π = Σ w max(−A r, −A clip(r, 1 ± ε)),
 * L_V = ½ Σ w max((V − R)², (V_old + clip(V − V_old, ± ε_V) − R)²), L = L_π + c L_V.
 *
 * Metrics: `policy_loss`, `value_loss`, `approx_kl` (k2: ½ (log r)²), `approx_kl_k3` (r − 1 − log r), both
 * estimates of KL(old ‖ new) that no token makes negative (http://joschu.net/blog/kl-approx.html), `clipfrac`.
 */
export const ppo = (options: PpoOptions): Objective => ({
  name: "ppo",
  inputs: {
    old_logprobs: perToken,
    advantages: perToken,
    old_values: perToken,
    returns: perToken,
    weights: perToken
  },
  build: (outputs, { advantages, old_logprobs, old_values, returns, weights }) => {
    const logRatio = Op.sub(outputs.logprobs(), old_logprobs!)
    const ratio = Op.exp(logRatio)
    const gain = Op.neg(advantages!)
    const clipped = Op.clip(ratio, 1 - options.clip, 1 + options.clip)
    const policy = mean(Op.maximum(Op.mul(gain, ratio), Op.mul(gain, clipped)), weights!)

    const values = outputs.values()
    const near = Op.add(old_values!, Op.clip(Op.sub(values, old_values!), -options.valueClip, options.valueClip))
    const square = (x: Value) => Op.mul(x, x)
    const errors = Op.maximum(square(Op.sub(values, returns!)), square(Op.sub(near, returns!)))
    const value = Op.scale(mean(errors, weights!), 0.5)

    const outside = indicator(Op.greater(Op.abs(Op.shift(ratio, -1)), Graph.scalar(ratio.graph, options.clip)))
    return {
      loss: Op.add(policy, Op.scale(value, options.valueCoefficient)),
      metrics: {
        policy_loss: policy,
        value_loss: value,
        approx_kl: Op.scale(mean(square(logRatio), weights!), 0.5),
        approx_kl_k3: mean(Op.sub(Op.shift(ratio, -1), logRatio), weights!),
        clipfrac: mean(outside, weights!)
      }
    }
  }
})
