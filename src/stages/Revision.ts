/**
 * Revision: a model rewrites an answer in the light of its critique, or directly.
 */
import { Effect, Schema, Stream } from "effect"
import type { AiError, LanguageModel } from "effect/ai"
import * as Constitution from "../Constitution.ts"
import { positive } from "../Positive.ts"
import * as Sample from "../Sample.ts"
import * as Sampling from "../Sampling.ts"
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
export const one = Effect.fnUntraced(function* (
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
  // With and without a critique different things are asked.
  const how = critique.text === "" ? "direct/revision" : "revision"
  const id = `${response.prompt.id}/${response.index}/${how}/${round}`
  const written = yield* Text.generate("revision", id, rendered, options).pipe(Sampling.under(principle.id))
  return Sample.revision({ critique, request, round, ...written })
}, Stage.span("Revision.one"))

/** Revisions of criticised answers. */
export const stage = (
  options: Options & Stage.Options = {}
): Stage.Stage<Sample.Critique, Sample.Revision, Failure, Needs> =>
  Stage.make("Revision", (critique: Sample.Critique) => one(critique, options), options)

/** The place of a critique that is left out: its principle is drawn and nothing is written. */
const without = Effect.fnUntraced(function* (response: Sample.Response, round: number, options: Options) {
  const principle = yield* Critique.principle(response, round, options)
  const { id, critique: request } = principle
  return Sample.critique({ response, principle: id, request, text: "", round, model: "none" })
})

export interface RoundsOptions extends Options, Stage.Options {
  /** Revise without a critique: the paper's ablation (Bai et al. 2022, section 3.5). */
  readonly direct?: boolean | undefined
}

/**
 * `n` rounds of critique and revision of each answer; the revision of every round comes out. Each round starts again
 * from the revised answer, under a principle of its own. When a round fails, the rounds before it are kept.
 */
export const rounds = (
  n: number,
  options: RoundsOptions = {}
): Stage.Stage<Sample.Response, Sample.Revision, Failure, Needs> => {
  const last = positive("rounds", n)
  return Stage.expand(
    "Revision",
    (response: Sample.Response) =>
      Stream.range(1, last).pipe(
        // One round waits for the one before it.
        Stream.rechunk(1),
        Stream.mapAccumEffect(
          () => response,
          Effect.fnUntraced(function* (answer: Sample.Response, round: number) {
            const critique = options.direct
              ? yield* without(answer, round, options)
              : yield* Critique.one(answer, { ...options, round })
            const revision = yield* one(critique, options)
            return [Sample.revised(revision), [revision]] as const
          })
        )
      ),
    options
  )
}

/** Revisions of answers without critiques, one of each; its critique has no text. See {@link RoundsOptions.direct}. */
export const direct = (
  options: Options & Stage.Options = {}
): Stage.Stage<Sample.Response, Sample.Revision, Failure, Needs> => rounds(1, { ...options, direct: true })
