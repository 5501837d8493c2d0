/**
 * TrainPolicySettings: what determines reinforcement learning besides `TrainSettings`, with the field's defaults.
 */
import { Effect, Option } from "effect"
import { atLeast, fits, fraction, positive, wrong } from "./TrainSettings.ts"
import type * as TrainSettings from "./TrainSettings.ts"

/** The arguments as they were given. */
export interface Input extends TrainSettings.CommonInput {
  readonly kind: TrainSettings.PolicyKind
  readonly prompts: string
  readonly rewardModel: string
  readonly maxTokens: number
  readonly temperature: number
  readonly samples: Option.Option<number>
  readonly updateEpochs: number
  readonly minibatchSize: Option.Option<number>
  readonly klCoefficient: Option.Option<number>
  readonly klTarget: Option.Option<number>
  readonly clip: number
  readonly rewardClip: Option.Option<number>
  readonly missingStopPenalty: number
  readonly valueClip: number
  readonly valueCoefficient: number
  readonly valueLearningRate: Option.Option<number>
  readonly gamma: number
  readonly lambda: number
  readonly aggregation: "token" | "sequence"
}

/** Settings out of the arguments. */
export const settings = Effect.fnUntraced(function* (input: Input, common: TrainSettings.Common) {
  const { batchSize } = common
  const samples = Option.getOrElse(input.samples, () => ({ ppo: 1, grpo: 8, rloo: 4 })[input.kind])
  const minibatchSize = Option.getOrElse(input.minibatchSize, () => batchSize)
  const klCoefficient = Option.getOrElse(input.klCoefficient, () => (input.kind === "grpo" ? 0 : 0.05))
  const klTarget = Option.getOrNull(input.klTarget)
  const rewardClip = Option.getOrNull(input.rewardClip)
  const valueLearningRate = Option.getOrElse(input.valueLearningRate, () => 10 * common.learningRate)
  if (input.kind !== "ppo" && samples < 2) {
    return yield* wrong(`--samples has to be 2 or more for ${input.kind}: answers are compared with each other.`)
  }
  yield* atLeast("--samples", samples, 1)
  if (batchSize % samples !== 0) {
    return yield* wrong(`--batch-size ${batchSize} is no multiple of the ${samples} samples of a prompt.`)
  }
  yield* atLeast("--max-tokens", input.maxTokens, 1)
  if (!(input.temperature > 0)) return yield* wrong(`--temperature has to be above 0: greedy answers are all the same.`)
  yield* fits("--temperature", input.temperature)
  yield* atLeast("--update-epochs", input.updateEpochs, 1)
  yield* atLeast("--minibatch-size", minibatchSize, 1)
  yield* atLeast("--kl-coefficient", klCoefficient, 0)
  if (klTarget !== null) yield* positive("--kl-target", klTarget)
  yield* positive("--clip", input.clip)
  if (rewardClip !== null) yield* positive("--reward-clip", rewardClip)
  yield* fits("--missing-stop-penalty", input.missingStopPenalty)
  yield* positive("--value-clip", input.valueClip)
  yield* atLeast("--value-coefficient", input.valueCoefficient, 0)
  const ten = Option.isNone(input.valueLearningRate) ? " (ten times --learning-rate)" : ""
  yield* positive(`--value-learning-rate${ten}`, valueLearningRate)
  yield* fraction("--gamma", input.gamma)
  yield* fraction("--lambda", input.lambda)
  if (input.kind === "grpo" && klTarget !== null) {
    return yield* wrong("--kl-target adapts a coefficient in the reward; grpo has it in the loss, so leave one out.")
  }
  if (klCoefficient === 0 && klTarget !== null) {
    return yield* wrong("--kl-target multiplies the coefficient, which stays 0 with --kl-coefficient 0; leave one out.")
  }
  return {
    samples,
    maxTokens: input.maxTokens,
    temperature: input.temperature,
    updateEpochs: input.updateEpochs,
    minibatchSize,
    klCoefficient,
    klTarget,
    clip: input.clip,
    rewardClip,
    missingStopPenalty: input.missingStopPenalty,
    ...(input.kind === "grpo" ? { aggregation: input.aggregation } : {}),
    ...(input.kind === "ppo"
      ? {
          valueClip: input.valueClip,
          valueCoefficient: input.valueCoefficient,
          valueLearningRate,
          gamma: input.gamma,
          lambda: input.lambda
        }
      : {})
  }
})
