/** PolicyObjective: what is learnt from sampled answers and their advantages. */
import * as Op from "../onnx/Op.ts"
import type { Objective } from "./Objective.ts"
import {
  clippedSurrogate,
  k3,
  make,
  mean,
  outside,
  perSequence,
  perToken,
  sequenceOf,
  square,
  sums
} from "./ObjectiveTerms.ts"

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
export const ppo = (options: PpoOptions): Objective =>
  make({
    name: "ppo",
    inputs: {
      old_logprobs: perToken,
      advantages: perToken,
      old_values: perToken,
      returns: perToken,
      weights: perToken
    },
    build: (outputs, { advantages, old_logprobs, old_values, returns, weights }) => {
      const logRatio = Op.sub(outputs.logprobs(), old_logprobs)
      const ratio = Op.exp(logRatio)
      const policy = mean(clippedSurrogate(ratio, advantages, options.clip), weights)

      const values = outputs.values()
      const near = Op.add(old_values, Op.clip(Op.sub(values, old_values), -options.valueClip, options.valueClip))
      const errors = Op.maximum(square(Op.sub(values, returns)), square(Op.sub(near, returns)))
      const value = Op.scale(mean(errors, weights), 0.5)
      return {
        loss: Op.add(policy, Op.scale(value, options.valueCoefficient)),
        metrics: {
          policy_loss: policy,
          value_loss: value,
          approx_kl: Op.scale(mean(square(logRatio), weights), 0.5),
          approx_kl_k3: mean(Op.sub(Op.shift(ratio, -1), logRatio), weights),
          clipfrac: mean(outside(ratio, options.clip), weights)
        }
      }
    }
  })

/** The constants of group-relative policy optimisation. */
export interface GrpoOptions {
  /** The policy's ratio counts within 1 ± clip. */
  readonly clip: number
  /** The weight of the KL term in the loss. */
  readonly beta: number
}

/**
 * Group-relative policy optimisation (Shao et al. 2024, eq. 3 and 4): r = exp(log π − log π_old),
 * d = log π − log π_ref, L = Σ w [max(−A r, −A clip(r, 1 ± ε)) + β (e^{−d} − 1 + d)].
 *
 * `weights` say how tokens are aggregated: 1/N over all tokens (Yu et al. 2025, eq. 8), or 1/(S·lengthₛ), which is a
 * mean for each sequence first, as in the paper. `advantages` are those of the token's answer. Metrics are means over
 * tokens, for which `shares` are 1/N: `kl` (k3, against the reference), `approx_kl` (k2, against the old policy),
 * `clipfrac`; `policy_loss` is the first term of the loss. Where β is 0 there is neither an input nor a metric of the
 * reference.
 */
export const grpo = (options: GrpoOptions): Objective =>
  make({
    name: "grpo",
    inputs: {
      old_logprobs: perToken,
      ...(options.beta === 0 ? {} : { reference_logprobs: perToken }),
      advantages: perToken,
      weights: perToken,
      shares: perToken
    },
    build: (outputs, { advantages, old_logprobs, reference_logprobs, shares, weights }) => {
      const logprobs = outputs.logprobs()
      const logRatio = Op.sub(logprobs, old_logprobs)
      const ratio = Op.exp(logRatio)
      const policy = mean(clippedSurrogate(ratio, advantages, options.clip), weights)
      const metrics = {
        policy_loss: policy,
        approx_kl: Op.scale(mean(square(logRatio), shares), 0.5),
        clipfrac: mean(outside(ratio, options.clip), shares)
      }
      if (reference_logprobs === undefined) return { loss: policy, metrics }
      const kl = k3(Op.sub(logprobs, reference_logprobs))
      return {
        loss: Op.add(policy, Op.scale(mean(kl, weights), options.beta)),
        metrics: { ...metrics, kl: mean(kl, shares) }
      }
    }
  })

/**
 * REINFORCE with leave-one-out advantages (Ahmadian et al. 2024, section 3): an answer is one action, so the ratio
 * is that of whole answers, R = exp(Σ log π − Σ log π_old), L = Σ w max(−A R, −A clip(R, 1 ± ε)). At the old policy
 * its gradient is −A ∇ Σ log π, REINFORCE's own; the clip bounds what several epochs can do.
 *
 * `sequence` numbers each token's answer; `advantages` and `weights` have one entry for each answer. Metrics:
 * `policy_loss`, `approx_kl` (k2 of whole answers, against the old policy), `clipfrac`.
 */
export const rloo = (options: { readonly clip: number }): Objective =>
  make({
    name: "rloo",
    inputs: { sequence: sequenceOf, old_logprobs: perToken, advantages: perSequence, weights: perSequence },
    build: (outputs, { advantages, old_logprobs, sequence, weights }) => {
      const logRatio = sums(Op.sub(outputs.logprobs(), old_logprobs), sequence, advantages)
      const ratio = Op.exp(logRatio)
      const policy = mean(clippedSurrogate(ratio, advantages, options.clip), weights)
      return {
        loss: policy,
        metrics: {
          policy_loss: policy,
          approx_kl: Op.scale(mean(square(logRatio), weights), 0.5),
          clipfrac: mean(outside(ratio, options.clip), weights)
        }
      }
    }
  })
