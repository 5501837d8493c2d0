/**
 * PolicyUpdate: an update of the service `Policy`, which is one of proximal policy optimisation.
 */
import { Effect } from "effect"
import type { SessionError } from "../onnx/Session.ts"
import type { ScoredRollout, UpdateMetrics, UpdateOptions } from "../Policy.ts"
import { policyRates } from "./Adapters.ts"
import * as PolicyGradient from "./PolicyGradient.ts"
import * as Rollouts from "./Rollouts.ts"
import { TrainingError } from "./Training.ts"

/** The learning rate's factor: rising over the first iterations, then falling linearly to the floor. */
export const rateFactor = (
  options: Pick<UpdateOptions, "floor" | "iteration" | "iterations" | "warmupIterations">
): number => {
  const { floor, iteration, iterations, warmupIterations } = options
  if (iteration < warmupIterations) return (iteration + 1) / (warmupIterations + 1)
  const progress = (iteration - warmupIterations) / Math.max(1, iterations - 1 - warmupIterations)
  return 1 - (1 - floor) * Math.min(1, progress)
}

/** One update, in place on the adapter and the state, as {@link PolicyGradient.update}; an empty answer teaches nothing. */
export const make = Effect.fnUntraced(function* (
  models: PolicyGradient.Models,
  rollouts: ReadonlyArray<ScoredRollout>,
  options: UpdateOptions
): Effect.fn.Return<UpdateMetrics, SessionError | TrainingError> {
  const started = performance.now()
  const factor = rateFactor(options)
  const learnt = yield* PolicyGradient.update(
    models,
    rollouts.filter(({ tokenIds }) => tokenIds.length > 0),
    { kind: "ppo", gamma: options.gamma, lambda: options.lambda, klCoefficient: options.klCoefficient },
    {
      ...policyRates(models.adapter.layout, {
        learningRate: factor * options.learningRate,
        valueLearningRate: factor * options.valueLearningRate,
        weightDecay: 0
      }),
      maxGradNorm: options.maxGradNorm
    },
    { ...options, temperature: options.temperature ?? 1, warn: Effect.logWarning }
  ).pipe(
    Effect.catchTag("TrainingError", ({ message }) =>
      Effect.fail(
        new TrainingError({ message: `An update failed: ${message}; look at the samples, or lower the learning rate.` })
      )
    )
  )
  const mean = (name: string) => learnt.means[name] ?? 0
  return {
    iteration: options.iteration,
    loss: mean("loss"),
    policy_loss: mean("policy_loss"),
    value_loss: mean("value_loss"),
    approx_kl: mean("approx_kl"),
    clipfrac: mean("clipfrac"),
    kl: Rollouts.meanOf(learnt.measured.map((m) => m.kl)),
    reward: Rollouts.meanOf(learnt.measured.map((m) => m.reward)),
    advantage_std: learnt.advantage_std ?? 0,
    learning_rate: factor * options.learningRate,
    grad_norm: mean("grad_norm"),
    tokens: learnt.answers.reduce((n, { tokenIds }) => n + tokenIds.length, 0),
    seconds: (performance.now() - started) / 1000
  }
})
