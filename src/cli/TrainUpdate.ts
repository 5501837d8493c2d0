/**
 * TrainUpdate: one update of reinforcement learning, from its answers to its line of metrics.
 */
import { Console, Effect, Option } from "effect"
import * as Adapters from "../engine/Adapters.ts"
import * as Kl from "../engine/Kl.ts"
import type * as Learner from "../engine/Learner.ts"
import * as Objective from "../engine/Objective.ts"
import * as Optimizer from "../engine/Optimizer.ts"
import * as PolicyGradient from "../engine/PolicyGradient.ts"
import { meanOf } from "../engine/Rollouts.ts"
import type * as Trainables from "../engine/Trainables.ts"
import type * as TrainAnswers from "./TrainAnswers.ts"
import type * as TrainPolicySettings from "./TrainPolicySettings.ts"
import * as TrainSettings from "./TrainSettings.ts"

/** What determines the updates. */
export interface Plan {
  readonly input: TrainPolicySettings.Input
  readonly common: TrainSettings.Common
  readonly settings: Effect.Success<ReturnType<typeof TrainPolicySettings.settings>>
  readonly steps: number
}

/** What an update hands on to the next, besides the learner's state. */
export interface Carried {
  readonly klCoefficient: number
  /** Minibatches without a finite loss and gradient, in a row, up to here. */
  readonly skipped: number
}

/** The objective of a kind of training. */
export const objective = ({ input, settings: { clip, klCoefficient } }: Plan) => {
  switch (input.kind) {
    case "ppo":
      return Objective.ppo({ clip, valueClip: input.valueClip, valueCoefficient: input.valueCoefficient })
    case "grpo":
      return Objective.grpo({ clip, beta: klCoefficient })
    case "rloo":
      return Objective.rloo({ clip })
  }
}

const algorithm = ({ input, settings }: Plan, klCoefficient: number): PolicyGradient.Algorithm => {
  const { samples } = settings
  switch (input.kind) {
    case "ppo":
      return { kind: "ppo", gamma: input.gamma, lambda: input.lambda, klCoefficient }
    case "grpo":
      return { kind: "grpo", samples, aggregation: input.aggregation, klCoefficient }
    case "rloo":
      return { kind: "rloo", samples, klCoefficient }
  }
}

/** The rates of the update `index` (from 0), the policy's first. */
const ratesOf = ({ common, input, steps }: Plan, layout: Trainables.Layout, index: number) => {
  const warmup = TrainSettings.warmupSteps(common.warmup, steps)
  const factor = Optimizer.stepMultiplier({ kind: common.schedule, steps, warmup, floor: common.floor }, index)
  const rate = factor * common.learningRate
  const valueRate = factor * Option.getOrElse(input.valueLearningRate, () => 10 * common.learningRate)
  const { maxGradNorm, weightDecay } = common
  const by = { learningRate: rate, valueLearningRate: valueRate, weightDecay }
  const rates: Learner.Rates = { ...Adapters.policyRates(layout, by), maxGradNorm }
  return [rate, rates] as const
}

const deviationOf = (numbers: ReadonlyArray<number>): number => {
  const mean = meanOf(numbers)
  return Math.sqrt(numbers.reduce((sum, x) => sum + (x - mean) ** 2, 0) / Math.max(1, numbers.length - 1))
}

/**
 * The update `index` (from 0), in place on the models: its line of metrics, and what it hands on. Fails with a
 * `TrainingError` where there is nothing to learn from, and with the models changed where learning broke off.
 */
export const make = (models: PolicyGradient.Models, answers: ReturnType<typeof TrainAnswers.from>, plan: Plan) => {
  const { common, settings } = plan
  const control: Kl.Control =
    settings.klTarget === null ? { _tag: "fixed" } : { _tag: "adaptive", target: settings.klTarget, horizon: 10_000 }
  return Effect.fnUntraced(function* (index: number, { klCoefficient, skipped }: Carried) {
    const started = performance.now()
    const step = index + 1
    const rollouts = yield* answers(index)
    const [rate, rates] = ratesOf(plan, models.adapter.layout, index)
    const learnt = yield* PolicyGradient.update(models, rollouts, algorithm(plan, klCoefficient), rates, {
      seed: common.seed,
      iteration: index,
      epochs: settings.updateEpochs,
      minibatchSize: settings.minibatchSize,
      microTokens: common.microTokens,
      microRows: common.microBatch ?? undefined,
      skipped,
      temperature: settings.temperature,
      warn: (message) => Console.error(`Step ${step}: ${message}`)
    })
    const kl = meanOf(learnt.measured.map((m) => m.kl))
    const rewards = rollouts.map((r) => r.reward)
    const tokens = rollouts.reduce((n, { tokenIds }) => n + tokenIds.length, 0)
    const seconds = (performance.now() - started) / 1000
    const line = {
      step,
      ...learnt.means,
      reward: meanOf(rewards),
      reward_std: deviationOf(rewards),
      score: meanOf(rollouts.map((r) => r.score)),
      kl,
      kl_k3: meanOf(learnt.measured.map((m) => m.kl3)),
      kl_coefficient: klCoefficient,
      entropy: -meanOf(learnt.answers.flatMap((r) => r.logprobs)),
      completion_length: tokens / rollouts.length,
      truncated: rollouts.filter((r) => r.finish === "length").length / rollouts.length,
      skipped: learnt.skipped.length,
      learning_rate: rate,
      tokens,
      tokens_per_second: tokens / Math.max(1e-9, seconds),
      seconds
    }
    const carried: Carried = {
      klCoefficient: Kl.next(control, klCoefficient, kl, rollouts.length),
      skipped: learnt.inARow
    }
    return { line, carried }
  })
}
