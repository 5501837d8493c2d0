/**
 * Response: a model answers a prompt.
 *
 * In the first phase it is the helpful-only assistant, whose answers are criticised and revised; in the second the
 * supervised policy, whose answers are compared.
 */
import { Effect } from "effect"
import type { AiError, LanguageModel } from "effect/ai"
import * as Sample from "../Sample.ts"
import type * as Sampling from "../Sampling.ts"
import * as Stage from "../Stage.ts"
import * as Transcript from "../Transcript.ts"
import * as Samples from "./Samples.ts"
import * as Text from "./Text.ts"

export interface Options extends Sampling.Options {
  /** Which sample of the prompt it is, from 0: each has randomness of its own. */
  readonly index?: number | undefined
}

type Failure = AiError.AiError | Transcript.UnusableAnswer

/** One answer to a prompt. */
export const one = Effect.fnUntraced(function* (
  prompt: Sample.Prompt,
  options: Options = {}
): Effect.fn.Return<Sample.Response, Failure, LanguageModel.LanguageModel> {
  const index = options.index ?? 0
  const { response } = yield* Transcript.Transcript
  const written = yield* Text.generate("response", `${prompt.id}/${index}/response`, response(prompt), options)
  return Sample.response({ prompt, index, ...written })
}, Stage.span("Response.one"))

export interface StageOptions extends Sampling.Options, Stage.Options {
  /** How many answers each prompt gets; 1 if not given. */
  readonly samples?: number | undefined
}

/** Answers to prompts. */
export const stage = (
  options: StageOptions = {}
): Stage.Stage<Sample.Prompt, Sample.Response, Failure, LanguageModel.LanguageModel> =>
  Samples.places(options.samples ?? 1).pipe(
    Stage.compose(
      Stage.make("Response", ({ prompt, index }: Samples.Place) => one(prompt, { ...options, index }), options)
    )
  )

/** Two answers to each prompt, to be compared. */
export const pair = (
  options: Sampling.Options & Stage.Options = {}
): Stage.Stage<Sample.Prompt, Sample.Comparison, Failure, LanguageModel.LanguageModel> =>
  Stage.make(
    "Response",
    (prompt: Sample.Prompt) =>
      Effect.all([one(prompt, { ...options, index: 0 }), one(prompt, { ...options, index: 1 })], {
        concurrency: 2
      }).pipe(Effect.map(([first, second]) => Sample.comparison(first, second))),
    options
  )
