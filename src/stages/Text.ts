/**
 * Text: one text from the language model, as response, critique and revision ask for it.
 *
 * @internal
 */
import { Effect, Option } from "effect"
import type { AiError, Response } from "effect/ai"
import { LanguageModel, Model } from "effect/ai"
import type { Finish, ModelContext } from "../Policy.ts"
import * as Sampling from "../Sampling.ts"
import * as Transcript from "../Transcript.ts"

/** A text with what its record says of where it comes from. */
export interface Text {
  readonly text: string
  readonly model: string
  readonly seed: number
  readonly finish?: Finish
}

/** The name of the model in force, where the answer itself does not tell it. */
export const modelName: Effect.Effect<string> = Effect.serviceOption(Model.ModelName).pipe(
  Effect.map(Option.getOrElse(() => "unknown"))
)

/** Samples a text and cleans it. `what` is being written, `id` says for which sample. */
export const generate = Effect.fnUntraced(function* (
  what: string,
  id: string,
  { context, stop }: Transcript.Rendered,
  options: Sampling.Options
): Effect.fn.Return<Text, AiError.AiError | Transcript.UnusableAnswer, LanguageModel.LanguageModel> {
  const sampling = Sampling.merge(yield* Sampling.Sampling, options, { id, context, stop })
  const response = yield* LanguageModel.generateText({ prompt: promptOf(context) }).pipe(
    Effect.provideService(Sampling.Sampling, sampling)
  )
  if (response.finishReason === "content-filter") {
    const reason = "the content filter of the model's server withheld it or broke it off; another model may write it"
    return yield* new Transcript.UnusableAnswer({ what, reason })
  }
  const metadata = response.content.find((part) => part.type === "response-metadata")
  const text = yield* Transcript.clean(response.text, what, stop)
  return {
    text,
    model: metadata?.modelId ?? (yield* modelName),
    seed: sampling.seed,
    ...finishOf(response.finishReason, text.length < response.text.trim().length)
  }
})

/** Why a text ended; one that goes on after a stop text has ended by itself, whatever was written after it. */
const finishOf = (reason: Response.FinishReason, stopped: boolean): { readonly finish?: Finish } => {
  if (stopped || reason === "stop") return { finish: "stop" }
  return reason === "length" ? { finish: "length" } : {}
}

/** For providers that know only messages. */
const promptOf = (context: ModelContext) =>
  typeof context === "string" ? context : context.messages.map(({ role, content }) => ({ role, content }))
