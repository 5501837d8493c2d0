/** PreferenceObjective: what is learnt from pairs of answers, by a reward model or by the policy itself. */
import * as Graph from "../onnx/Graph.ts"
import type { Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import type { Objective } from "./Objective.ts"
import { indicator, make, mean, pairOf, perPair, perSequence, sequenceOf, square, sums } from "./ObjectiveTerms.ts"

/** t softplus(−d) + (1 − t) softplus(d): the cross-entropy of σ(d) against the soft label t. */
const crossEntropy = (d: Value, target: Value): Value => {
  const rest = Op.sub(Graph.scalar(d.graph, 1), target)
  return Op.add(Op.mul(target, Op.softplus(Op.neg(d))), Op.mul(rest, Op.softplus(d)))
}

/** 1 where d ranks the pair as the label does, which a d of 0 never does, and 1/2 where the label is a tie. */
const agrees = (d: Value, target: Value): Value => {
  const tie = indicator(Op.equal(target, Graph.scalar(d.graph, 0.5)))
  const same = Op.greater(Op.mul(d, Op.shift(target, -0.5)), Graph.scalar(d.graph, 0))
  return Op.add(indicator(same), Op.scale(tie, 0.5))
}

/**
 * Bradley-Terry with soft labels: d = s(first) − s(second) − margin,
 * L = Σ wᵢ [t softplus(−d) + (1 − t) softplus(d)], the cross-entropy of σ(d) against t = P(first preferred)
 * (Bai et al. 2022, section 4.1; margin as in Touvron et al. 2023, section 3.2.2).
 *
 * `first` and `second` index the scored sequences. Metric: `accuracy`, the share of pairs that d ranks as the
 * label does: by the margin, where there is one.
 */
export const bradleyTerry: Objective = make({
  name: "bradleyTerry",
  inputs: { first: pairOf, second: pairOf, target: perPair, margin: perPair, weights: perPair },
  build: (outputs, { first, margin, second, target, weights }) => {
    const scores = outputs.scores()
    const d = Op.sub(Op.sub(Op.gather(scores, first), Op.gather(scores, second)), margin)
    return {
      loss: mean(crossEntropy(d, target), weights),
      metrics: { accuracy: mean(agrees(d, target), weights) }
    }
  }
})

/** How direct preference optimisation weighs a pair. */
export interface DpoOptions {
  /** The strength of the pull towards the reference. */
  readonly beta: number
  /** `sigmoid` is DPO's own loss, `ipo` the squared one. */
  readonly loss: "sigmoid" | "ipo"
  /** ε in [0, ½): the share of labels taken to be wrong; 0 if left out. */
  readonly labelSmoothing?: number
}

/**
 * Direct preference optimisation (Rafailov et al. 2023, eq. 7): with log-ratios ρ = log π − log π_ref summed over the
 * tokens of an answer and h = ρ(first) − ρ(second),
 * - `sigmoid`: d = β h − margin, L = Σ wᵢ [t′ softplus(−d) + (1 − t′) softplus(d)], t′ = t (1 − ε) + (1 − t) ε
 *   (soft labels t; smoothing as in Mitchell 2023, "A note on DPO with noisy preferences"; margin as in Amini et al.
 *   2024, eq. 7);
 * - `ipo`: L = Σ wᵢ [t′ (h − margin − 1/2β)² + (1 − t′) (h − margin + 1/2β)²] (Azar et al. 2024, eq. 17).
 *
 * `sequence` numbers each token's answer, `reference` has log π_ref of each answer, `first` and `second` index the
 * answers. Metrics: `rewards_chosen` and `rewards_rejected`, the means of β ρ, `rewards_margin`, their difference, and
 * `accuracy`, the share of pairs that h ranks as the label does.
 */
export const dpo = ({ beta, labelSmoothing = 0, loss }: DpoOptions): Objective =>
  make({
    name: `dpo ${loss}`,
    inputs: {
      sequence: sequenceOf,
      reference: perSequence,
      first: pairOf,
      second: pairOf,
      target: perPair,
      margin: perPair,
      weights: perPair
    },
    build: (outputs, { first, margin, reference, second, sequence, target, weights }) => {
      const ratios = Op.sub(sums(outputs.logprobs(), sequence, reference), reference)
      const [chosen, rejected] = [Op.gather(ratios, first), Op.gather(ratios, second)]
      const h = Op.sub(chosen, rejected)
      const smooth = Op.shift(Op.scale(target, 1 - 2 * labelSmoothing), labelSmoothing)
      const losses =
        loss === "sigmoid"
          ? crossEntropy(Op.sub(Op.scale(h, beta), margin), smooth)
          : ipo(Op.sub(h, margin), smooth, 1 / (2 * beta))
      const reward = (x: Value) => Op.scale(mean(x, weights), beta)
      return {
        loss: mean(losses, weights),
        metrics: {
          rewards_chosen: reward(chosen),
          rewards_rejected: reward(rejected),
          rewards_margin: reward(h),
          accuracy: mean(agrees(h, target), weights)
        }
      }
    }
  })

const ipo = (h: Value, target: Value, goal: number): Value => {
  const rest = Op.sub(Graph.scalar(h.graph, 1), target)
  return Op.add(Op.mul(target, square(Op.shift(h, -goal))), Op.mul(rest, square(Op.shift(h, goal))))
}
