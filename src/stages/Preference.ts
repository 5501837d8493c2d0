/**
 * Preference: AI feedback on two answers, as a soft label.
 *
 * The judge is asked which of (A) and (B) is the better under one principle; its probabilities are the label (Bai et
 * al. 2022, section 4.1). Judges favour the option that is shown first, so both orders are asked and averaged (Lee et
 * al. 2023, RLAIF).
 */
import { Effect, Schema } from "effect"
import type { AiError } from "effect/ai"
import { Decision, DecisionModel } from "effect/ai"
import * as Constitution from "../Constitution.ts"
import { Message } from "../Policy.ts"
import * as Sample from "../Sample.ts"
import * as Sampling from "../Sampling.ts"
import * as Stage from "../Stage.ts"
import * as Transcript from "../Transcript.ts"
import * as Text from "./Text.ts"

/** Two answers that cannot be compared: a label for them would say nothing about answers. */
export class UnusableComparison extends Schema.TaggedError<UnusableComparison>()("UnusableComparison", {
  reason: Schema.Literals(["identical", "empty"])
}) {
  override get message(): string {
    return this.reason === "identical" ? "both answers are the same text" : "an answer has no text"
  }
}

export interface Options {
  /** Decides, with the comparison, which principle is drawn; of the sampling in force if not given. */
  readonly seed?: number | undefined
  /** `both` (the default) asks twice, with the answers swapped, and averages; `first` asks once. */
  readonly orders?: "both" | "first" | undefined
}

type Failure = AiError.AiError | UnusableComparison
type Needs = DecisionModel.DecisionModel | Constitution.Constitution

/** What the judge sees besides the principle and the two answers. */
const Input = Schema.Struct({ conversation: Schema.Array(Message) })

/** One soft label. */
export const one = Effect.fn("Preference.one")(function* (
  comparison: Sample.Comparison,
  options: Options = {}
): Effect.fn.Return<Sample.Preference, Failure, Needs> {
  const { prompt, first, second } = comparison
  const texts = [first.text.trim(), second.text.trim()] as const
  if (texts.includes("")) return yield* new UnusableComparison({ reason: "empty" })
  if (texts[0] === texts[1]) return yield* new UnusableComparison({ reason: "identical" })

  const constitution = yield* Constitution.Constitution
  const seed = options.seed ?? (yield* Sampling.Sampling).seed
  const origin = `${prompt.id}/${first.index}/${second.index}`
  const principle = Constitution.drawComparison(constitution, prompt.kind, seed, origin)
  const request = principle.principle

  const shownFirst = judge({ prompt, request, answers: texts }, `${origin}/preference/1`)
  const shownSecond = judge({ prompt, request, answers: [texts[1], texts[0]] }, `${origin}/preference/2`)
  const asked = options.orders === "first" ? [shownFirst] : [shownFirst, shownSecond]
  const [straight, swapped] = yield* Effect.all(asked, { concurrency: 2 })

  // In the swapped order (A) is the second answer: un-swap before anything is averaged.
  const pFirst = straight!.probabilityOfA
  const byOrder = swapped === undefined ? ([pFirst] as const) : ([pFirst, 1 - swapped.probabilityOfA] as const)
  return Sample.preference({
    comparison,
    principle: principle.id,
    request,
    probability: byOrder[1] === undefined ? byOrder[0] : (byOrder[0] + byOrder[1]) / 2,
    byOrder,
    model: straight!.model
  })
})

/** Soft labels of comparisons. */
export const stage = (
  options: Options & Stage.Options = {}
): Stage.Stage<Sample.Comparison, Sample.Preference, Failure, Needs> =>
  Stage.make("Preference", (comparison: Sample.Comparison) => one(comparison, options), options)

/** The judge's probability of (A), for the answers in the order given. */
const judge = Effect.fnUntraced(function* (asked: Transcript.ChoiceRequest, id: string) {
  const transcript = yield* Transcript.Transcript
  const { fewShot } = yield* Constitution.Constitution
  const { context, options, stop } = transcript.choice(asked, fewShot)
  const sampling = Sampling.merge(yield* Sampling.Sampling, {}, { id, context, options, stop })
  const [A, B] = asked.answers
  const definition = Decision.make({
    input: Input,
    decisions: { choice: Decision.classify({ instructions: asked.request, criteria: { A, B } }) }
  })
  const { answers, modelId } = yield* DecisionModel.decide(definition, {
    input: { conversation: asked.prompt.messages }
  }).pipe(Effect.provideService(Sampling.Sampling, sampling))
  return { probabilityOfA: answers.choice.probabilities.A, model: modelId ?? (yield* Text.modelName) }
})
