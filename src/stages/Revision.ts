/**
 * Revision: a model rewrites an answer in the light of its critique.
 */
import { Effect, Schema, Stream } from "effect"
import type { AiError, LanguageModel } from "effect/ai"
import * as Constitution from "../Constitution.ts"
import * as Sample from "../Sample.ts"
import type * as Sampling from "../Sampling.ts"
import * as Stage from "../Stage.ts"
import * as Transcript from "../Transcript.ts"
import * as Critique from "./Critique.ts"
import * as Text from "./Text.ts"

/** A critique was made under a principle that the constitution in force does not have. */
export class UnknownPrinciple extends Schema.TaggedError<UnknownPrinciple>()("UnknownPrinciple", {
  principle: Schema.String,
  constitution: Schema.String
}) {
  override get message(): string {
    return (
      `the constitution "${this.constitution}" has no revision principle "${this.principle}"; ` +
      "revise with the constitution that the critiques were made under"
    )
  }
}

export type Options = Sampling.Options

type Failure = AiError.AiError | Transcript.UnusableAnswer | UnknownPrinciple
type Needs = LanguageModel.LanguageModel | Constitution.Constitution

/** One revision, under the principle of its critique. */
export const one = Effect.fn("Revision.one")(function* (
  critique: Sample.Critique,
  options: Options = {}
): Effect.fn.Return<Sample.Revision, Failure, Needs> {
  const constitution = yield* Constitution.Constitution
  const transcript = yield* Transcript.Transcript
  const principle = constitution.revision.find(({ id }) => id === critique.principle)
  if (principle === undefined) {
    return yield* new UnknownPrinciple({ principle: critique.principle, constitution: constitution.name })
  }
  const { response, round } = critique
  const request = principle.revision
  const rendered = transcript.revision(critique, request, constitution.fewShot)
  const id = `${response.prompt.id}/${response.index}/revision/${round}`
  const { text, model } = yield* Text.generate("revision", id, rendered, options)
  return Sample.revision({ critique, request, text, round, model })
})

/** Revisions of criticised answers. */
export const stage = (
  options: Options & Stage.Options = {}
): Stage.Stage<Sample.Critique, Sample.Revision, Failure, Needs> =>
  Stage.make("Revision", (critique: Sample.Critique) => one(critique, options), options)

/**
 * `n` rounds of critique and revision of each answer; the revision of every round comes out. Each round starts again
 * from the revised answer, under a principle of its own. When a round fails, the rounds before it are kept.
 */
export const rounds = (
  n: number,
  options: Options & Stage.Options = {}
): Stage.Stage<Sample.Response, Sample.Revision, Failure, Needs> =>
  Stage.expand(
    "Revision",
    (response: Sample.Response) =>
      Stream.range(1, n).pipe(
        // One round waits for the one before it.
        Stream.rechunk(1),
        Stream.mapAccumEffect(
          () => response,
          Effect.fnUntraced(function* (answer: Sample.Response, round: number) {
            const critique = yield* Critique.one(answer, { ...options, round })
            const revision = yield* one(critique, options)
            return [Sample.revised(revision), [revision]] as const
          })
        )
      ),
    options
  )
