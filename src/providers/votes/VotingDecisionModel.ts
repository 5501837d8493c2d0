/**
 * VotingDecisionModel: a judge out of any language model, for those that give no log-probabilities.
 *
 * The probability of an option is the share of k sampled answers that name it: with 8 votes a label has steps of an
 * eighth. The hosted providers have judges of their own; this one is for a `LanguageModel` from elsewhere.
 *
 * @example
 * comparisons.pipe(Preference.stage().pipe(Stage.provide(VotingDecisionModel.layer({ votes: 8 }))))
 */
import { Effect, Layer } from "effect"
import { DecisionModel, LanguageModel, Model } from "effect/ai"
import * as Sampling from "../../Sampling.ts"
import * as Judge from "../http/Judge.ts"
import * as Messages from "../http/Messages.ts"
import type { Written } from "../http/Written.ts"

export interface Options {
  /** How many answers are sampled for a label; 8 if not given. */
  readonly votes?: number | undefined
  /** How long an answer to be read may get; 16 tokens if not given. */
  readonly maxTokens?: number | undefined
}

const module = "VotingDecisionModel"

/** The service over the language model in force. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const model = yield* LanguageModel.LanguageModel
  const name = yield* Effect.serviceOption(Model.ModelName)

  const sample = Effect.fnUntraced(function* ({ context, choice }: Judge.Question, vote: number) {
    const { options: _, ...sampling } = yield* Sampling.Sampling
    const prompt =
      typeof context === "string" ? context : [...Messages.instruct(context.messages, Judge.instruction(choice))]
    // Each vote is a sample of its own; a model that can continue a text is given the very context.
    const own = { ...sampling, id: `${sampling.id}/vote/${vote}`, context, maxTokens: options.maxTokens ?? 16 }
    const answer = yield* model.generateText({ prompt }).pipe(Effect.provideService(Sampling.Sampling, own))
    const metadata = answer.content.find((part) => part.type === "response-metadata")
    return {
      text: answer.text,
      model: metadata?.modelId ?? (name._tag === "Some" ? name.value : "unknown"),
      finish: answer.finishReason,
      tokens: { input: answer.usage.inputTokens.total ?? 0, output: answer.usage.outputTokens.total ?? 0 }
    } satisfies Written
  })

  return yield* Judge.make(module, (question) =>
    Judge.vote(module, question, options.votes ?? 8, (vote) => sample(question, vote))
  )
})

/** The judge over the language model in force. */
export const layer = (
  options: Options = {}
): Layer.Layer<DecisionModel.DecisionModel, never, LanguageModel.LanguageModel> =>
  Layer.effect(DecisionModel.DecisionModel, make(options))
