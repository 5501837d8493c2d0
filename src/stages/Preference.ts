/**
 * Preference: AI feedback on two answers, as a soft label.
 *
 * The judge is asked which of (A) and (B) is the better under one principle; its probabilities are the label (Bai et
 * al. 2022, section 4.1). Judges favour the option that is shown first, so both orders are asked and averaged (Lee et
 * al. 2023, RLAIF).
 */
import { Effect, Schema } from "effect"
import type { AiError, LanguageModel } from "effect/ai"
import { Decision, DecisionModel } from "effect/ai"
import * as Constitution from "../Constitution.ts"
import { Message } from "../Policy.ts"
import { positive } from "../Positive.ts"
import * as Sample from "../Sample.ts"
import * as Sampling from "../Sampling.ts"
import * as Stage from "../Stage.ts"
import * as Transcript from "../Transcript.ts"
import * as Text from "./Text.ts"

/** Two answers that cannot be compared: a label for them would say nothing about answers. */
export class UnusableComparison extends Schema.TaggedError<UnusableComparison>()("UnusableComparison", {
  reason: Schema.Literals(["identical", "empty", "apart"])
}) {
  override get message(): string {
    return reasons[this.reason]
  }
}

const reasons = {
  identical: "both answers are the same text",
  empty: "an answer has no text",
  apart: "the answers are to different prompts"
} as const

export interface Options extends Sampling.Options {
  /** How many principles are drawn and averaged; 1 if not given, as in the paper. */
  readonly principles?: number | undefined
  /** `both` (the default) asks twice, with the answers swapped, and averages; `first` asks once. */
  readonly orders?: "both" | "first" | undefined
  /**
   * The language model thinks step by step before the judge chooses. A choice after a reasoning is over-confident, so
   * the label is then clamped to 0.4-0.6 (Bai et al. 2022, section 4.1).
   */
  readonly reasoning?: boolean | undefined
  /** The label stays within these; 0.4 and 0.6 after a reasoning and 0 and 1 without one if not given. */
  readonly clamp?: readonly [least: number, most: number] | undefined
}

type Failure = AiError.AiError | Transcript.UnusableAnswer | UnusableComparison
type Needs = DecisionModel.DecisionModel | Constitution.Constitution

/** Options without a reasoning, which needs no language model. */
type Plain = Options & { readonly reasoning?: false | undefined }

/** What the judge sees besides the principle and the two answers. */
const Input = Schema.Struct({ conversation: Schema.Array(Message) })

/** What an answer is to. */
const asked = ({ prompt }: Sample.Response): string => JSON.stringify(prompt.messages)

/** The numbers of the options; throws where they are none, which is a mistake in the program. */
const checked = ({ clamp, principles = 1, reasoning = false }: Options) => {
  const [least, most] = clamp ?? (reasoning ? [0.4, 0.6] : [0, 1])
  // Between other bounds every label would be the same one, or no number.
  if (!(least <= most)) throw new RangeError(`clamp is [${least}, ${most}]; the first is not above the second.`)
  return { principles: positive("principles", principles), clamp: [least, most] } as const
}

const ask = Effect.fnUntraced(function* (
  comparison: Sample.Comparison,
  options: Options = {}
): Effect.fn.Return<Sample.Preference, Failure, Needs | LanguageModel.LanguageModel> {
  const { prompt, first, second } = comparison
  const texts = [first.text.trim(), second.text.trim()] as const
  if (texts.includes("")) return yield* new UnusableComparison({ reason: "empty" })
  if (texts[0] === texts[1]) return yield* new UnusableComparison({ reason: "identical" })
  if (asked(first) !== asked(second)) return yield* new UnusableComparison({ reason: "apart" })

  const constitution = yield* Constitution.Constitution
  const seed = options.seed ?? (yield* Sampling.Sampling).seed
  const origin = `${prompt.id}/${first.index}/${second.index}`
  const {
    principles: k,
    clamp: [least, most]
  } = checked(options)
  const drawn = Constitution.drawComparisons(constitution, prompt.kind, seed, origin, k)

  const judged = yield* Effect.forEach(
    drawn,
    (principle, i) => judgeUnder({ comparison, texts, principle, origin, i, options }),
    // A single principle needs no fiber of its own.
    { concurrency: drawn.length }
  )

  const clamped = (p: number) => Math.min(most, Math.max(least, p))
  // In the swapped order (A) is the second answer: un-swap before anything is averaged. The mean of both orders,
  // (p + (1 - q)) / 2, is written so that a judge who only looks at the position gives exactly a half.
  const [p, q] = [mean(judged.map((each) => each.straight.probabilityOfA)), mean(judged.flatMap(swappedOfA))]
  const both = judged[0]!.swapped !== undefined
  const { model } = judged[0]!.straight
  return Sample.preference({
    comparison,
    principle: judged.map(({ principle }) => principle).join(" + "),
    request: judged.map(({ request }) => request).join("\n"),
    probability: clamped(both ? 0.5 + (p - q) / 2 : p),
    byOrder: both ? [p, 1 - q] : [p],
    model,
    seed,
    ...(judged.length > 1 || options.reasoning ? { judgements: judged.map(judgement) } : {})
  })
}, Stage.span("Preference.one"))

const mean = (values: ReadonlyArray<number>): number => values.reduce((sum, x) => sum + x, 0) / values.length

interface Judged {
  readonly principle: string
  readonly request: string
  readonly straight: Verdict
  readonly swapped: Verdict | undefined
}

const swappedOfA = ({ swapped }: Judged) => (swapped === undefined ? [] : [swapped.probabilityOfA])

const judgement = ({ principle, request, straight, swapped }: Judged): Sample.Judgement => {
  const thoughts = [straight.reasoning, swapped?.reasoning].filter((text) => text !== undefined)
  const [thought, another] = thoughts
  return new Sample.Judgement({
    principle,
    request,
    byOrder: swapped === undefined ? [straight.probabilityOfA] : [straight.probabilityOfA, 1 - swapped.probabilityOfA],
    ...(thought === undefined ? {} : { reasoning: another === undefined ? [thought] : [thought, another] })
  })
}

// Without a reasoning the language model is never looked up, which the types below say and inference cannot know.

/** One soft label. Only a {@link Options.reasoning} needs a language model besides the judge. */
export const one: {
  (comparison: Sample.Comparison, options?: Plain): Effect.Effect<Sample.Preference, Failure, Needs>
  (
    comparison: Sample.Comparison,
    options: Options
  ): Effect.Effect<Sample.Preference, Failure, Needs | LanguageModel.LanguageModel>
} = ask as never

/** Soft labels of comparisons. Only a {@link Options.reasoning} needs a language model besides the judge. */
export const stage: {
  (options?: Plain & Stage.Options): Stage.Stage<Sample.Comparison, Sample.Preference, Failure, Needs>
  (
    options: Options & Stage.Options
  ): Stage.Stage<Sample.Comparison, Sample.Preference, Failure, Needs | LanguageModel.LanguageModel>
} = (options: Options & Stage.Options = {}) => {
  checked(options)
  return Stage.make("Preference", (comparison: Sample.Comparison) => ask(comparison, options), options) as never
}

interface Verdict {
  readonly probabilityOfA: number
  readonly model: string
  readonly reasoning: string | undefined
}

/** What the judge says under one principle, in each order that is asked. */
const judgeUnder = Effect.fnUntraced(function* (asked: {
  readonly comparison: Sample.Comparison
  readonly texts: readonly [string, string]
  readonly principle: Constitution.ComparisonPrinciple
  readonly origin: string
  /** Which of the principles drawn it is, from 0. */
  readonly i: number
  readonly options: Options
}) {
  const { i, options, origin } = asked
  const { id: principle, principle: request } = asked.principle
  const { prompt } = asked.comparison
  const [first, second] = asked.texts
  const place = (order: number) => `${origin}/preference/${order}${i === 0 ? "" : `/${i + 1}`}`
  const shownFirst = judge({ prompt, request, answers: [first, second] }, place(1), options)
  const shownSecond = judge({ prompt, request, answers: [second, first] }, place(2), options)
  const orders = options.orders === "first" ? [shownFirst] : [shownFirst, shownSecond]
  const [straight, swapped] = yield* Effect.all(orders, { concurrency: 2 }).pipe(Sampling.under(principle))
  return { principle, request, straight: straight!, swapped }
})

/** The judge's probability of (A), for the answers in the order given. */
const judge = Effect.fnUntraced(function* (
  question: Transcript.ChoiceRequest,
  id: string,
  options: Options
): Effect.fn.Return<Verdict, Failure, Needs | LanguageModel.LanguageModel> {
  const transcript = yield* Transcript.Transcript
  const { fewShot } = yield* Constitution.Constitution
  const thought = options.reasoning
    ? yield* Text.generate("reasoning", `${id}/reasoning`, transcript.reasoning(question, fewShot), options)
    : undefined
  const asked = { ...question, reasoning: thought?.text }
  const { context, options: labels, stop } = transcript.choice(asked, fewShot)
  const sampling = Sampling.merge(yield* Sampling.Sampling, options, { id, context, options: labels, stop })
  const [A, B] = asked.answers
  const definition = Decision.make({
    input: Input,
    decisions: { choice: Decision.classify({ instructions: asked.request, criteria: { A, B } }) }
  })
  const { answers, modelId } = yield* DecisionModel.decide(definition, {
    input: { conversation: asked.prompt.messages }
  }).pipe(Effect.provideService(Sampling.Sampling, sampling))
  return {
    probabilityOfA: answers.choice.probabilities.A,
    model: modelId ?? (yield* Text.modelName),
    reasoning: thought?.text
  }
})
