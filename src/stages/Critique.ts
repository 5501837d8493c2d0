/**
 * Critique: a model says what is wrong with an answer under one principle of the constitution.
 */
import { Effect } from "effect"
import type { AiError, LanguageModel } from "effect/ai"
import * as Constitution from "../Constitution.ts"
import * as Sample from "../Sample.ts"
import * as Sampling from "../Sampling.ts"
import * as Stage from "../Stage.ts"
import * as Transcript from "../Transcript.ts"
import * as Text from "./Text.ts"

export interface Options extends Sampling.Options {
  /** The round, from 1: the principle is drawn for each anew. */
  readonly round?: number | undefined
}

type Failure = AiError.AiError | Transcript.UnusableAnswer
type Needs = LanguageModel.LanguageModel | Constitution.Constitution

/**
 * One critique. The principle depends on the seed, the prompt, the sample's index and the round, not on the answer: two
 * models are criticised under the same principles.
 */
export const one = Effect.fn("Critique.one")(function* (
  response: Sample.Response,
  options: Options = {}
): Effect.fn.Return<Sample.Critique, Failure, Needs> {
  const round = options.round ?? 1
  const constitution = yield* Constitution.Constitution
  const transcript = yield* Transcript.Transcript
  const seed = options.seed ?? (yield* Sampling.Sampling).seed
  const origin = `${response.prompt.id}/${response.index}`
  const principle = Constitution.drawRevision(constitution, seed, origin, round)
  const request = principle.critique
  const rendered = transcript.critique(response, request, constitution.fewShot)
  const { text, model } = yield* Text.generate("critique", `${origin}/critique/${round}`, rendered, options)
  return Sample.critique({ response, principle: principle.id, request, text, round, model })
})

/** Critiques of answers. */
export const stage = (
  options: Options & Stage.Options = {}
): Stage.Stage<Sample.Response, Sample.Critique, Failure, Needs> =>
  Stage.make("Critique", (response: Sample.Response) => one(response, options), options)
