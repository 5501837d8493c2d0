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
 * The principle of a round. It depends on the seed, the prompt, the sample's index and the round, not on the answer:
 * two models are criticised under the same principles.
 */
export const principle = Effect.fnUntraced(function* (
  { prompt, index }: Sample.Response,
  round: number,
  options: Sampling.Options = {}
): Effect.fn.Return<Constitution.RevisionPrinciple, never, Constitution.Constitution> {
  const constitution = yield* Constitution.Constitution
  const seed = options.seed ?? (yield* Sampling.Sampling).seed
  return Constitution.drawRevision(constitution, seed, `${prompt.id}/${index}`, round)
})

/** One critique, under the {@link principle} of its round. */
export const one = Effect.fnUntraced(function* (
  response: Sample.Response,
  options: Options = {}
): Effect.fn.Return<Sample.Critique, Failure, Needs> {
  const round = options.round ?? 1
  const { fewShot } = yield* Constitution.Constitution
  const transcript = yield* Transcript.Transcript
  const { id: drawn, critique: request } = yield* principle(response, round, options)
  const rendered = transcript.critique(response, request, fewShot)
  const id = `${response.prompt.id}/${response.index}/critique/${round}`
  const { finish: _, ...written } = yield* Text.generate("critique", id, rendered, options).pipe(Sampling.under(drawn))
  return Sample.critique({ response, principle: drawn, request, round, ...written })
}, Stage.span("Critique.one"))

/** Critiques of answers. */
export const stage = (
  options: Options & Stage.Options = {}
): Stage.Stage<Sample.Response, Sample.Critique, Failure, Needs> =>
  Stage.make("Critique", (response: Sample.Response) => one(response, options), options)
