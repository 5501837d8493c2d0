/**
 * OnnxDecisionModel: `effect/ai`'s DecisionModel over a Policy, by log-probabilities.
 *
 * The probability of a label is the normalised exponential of the log-probability of its text after the context:
 * p(A) = exp l(A) / (exp l(A) + exp l(B)), the paper's soft label (Bai et al. 2022, section 4.1).
 */
import { Effect, Layer } from "effect"
import { AiError, DecisionModel } from "effect/ai"
import type { Decision, Model } from "effect/ai"
import { Policy } from "../../Policy.ts"
import * as Sampling from "../../Sampling.ts"
import * as Judge from "../http/Judge.ts"
import * as Named from "../http/Named.ts"
import { fromPolicyError } from "./PolicyAiError.ts"

/** The normalised exponentials of log-probabilities (nats), without overflow. */
export const softmax = (logits: ReadonlyArray<number>): ReadonlyArray<number> => {
  const max = Math.max(...logits)
  const exps = logits.map((logit) => Math.exp(logit - max))
  const total = exps.reduce((sum, x) => sum + x, 0)
  return exps.map((x) => x / total)
}

const invalid = (description: string) =>
  AiError.make({
    module: "OnnxDecisionModel",
    method: "decide",
    reason: new AiError.InvalidRequestError({ description })
  })

/** The service over a policy. */
export const make: Effect.Effect<DecisionModel.DecisionModel, never, Policy> = Effect.gen(function* () {
  const policy = yield* Policy

  const classify = Effect.fnUntraced(function* (
    state: unknown,
    decision: Decision.Classify<string>,
    asked: Sampling.Sampling
  ) {
    const labels = Object.keys(decision.criteria)
    const context = asked.context ?? `${Judge.render(state, decision)}\n\nThe answer is:`
    const options = asked.options ?? labels.map((label) => ` (${label})`)
    if (options.length !== labels.length) return yield* invalid(`${options.length} texts for ${labels.length} labels`)
    const logprobs = yield* policy
      .choose(asked.id, context, options)
      .pipe(Effect.mapError(fromPolicyError("OnnxDecisionModel", "decide")))
    const total = softmax(logprobs)
    const best = total.indexOf(Math.max(...total))
    const probabilities = Object.fromEntries(labels.map((label, i) => [label, total[i]!]))
    return { _tag: "Classify" as const, label: labels[best] ?? labels[0]!, probabilities }
  })

  return yield* DecisionModel.make({
    decide: Effect.fnUntraced(function* ({ state, decisions }) {
      const sampling = yield* Sampling.Sampling
      const entries = Object.entries(decisions)
      // The context of a transcript holds one question.
      const { context: _, options: __, ...plain } = sampling
      const asked = entries.length === 1 ? sampling : plain
      const answers: Record<string, DecisionModel.ProviderAnswer> = {}
      for (const [key, decision] of entries) {
        if (decision._tag !== "Classify") return yield* invalid(`"${key}": a policy answers classifications only`)
        answers[key] = yield* classify(state, decision, asked)
      }
      return { answers, usage: { inputTokens: undefined, outputTokens: undefined }, modelId: policy.model }
    })
  })
})

/** The judge over the policy in force, with its name. */
export const layer: Layer.Layer<DecisionModel.DecisionModel | Model.ModelName, never, Policy> = Layer.merge(
  Layer.effect(DecisionModel.DecisionModel, make),
  Named.layer(Policy)
)

/** The judge over a given policy, such as `Models.base`. */
export const fromPolicy = (policy: Policy["Service"]): Layer.Layer<DecisionModel.DecisionModel | Model.ModelName> =>
  Layer.provide(layer, Layer.succeed(Policy, policy))
