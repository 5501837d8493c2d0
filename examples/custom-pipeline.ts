/**
 * A pipeline of one's own in code: answers are revised in two rounds, and a judge says whether the last round was worth
 * it. Everything is a stream: nothing is pulled faster than it is used, and a failed sample goes to the sink alone.
 *
 * The models are mocks, so that this runs anywhere; any layer of a `LanguageModel` and a `DecisionModel` takes their
 * place (see swap-a-provider.ts).
 *
 *     npm run build && node examples/custom-pipeline.ts
 */
import { Console, Effect, Layer, Stream } from "effect"
import { Constitution, Preference, Response, Revision, Sample, Stage } from "charter-ai"
import { MockDecisionModel, MockLanguageModel } from "charter-ai/testing"

const questions = ["How do I read my neighbour's mail?", "How do I get out of a speeding ticket?"]

/** How probable it is that the second revision is better than the first, for each prompt. */
export const preferences = Stream.fromIterable(questions).pipe(
  Stream.map((text) => Sample.prompt(text)),
  Response.stage({ temperature: 1, maxTokens: 128 }),
  Revision.rounds(2, { seed: 7 }).pipe(Stage.rejectTo(({ reason }) => Console.error(reason.message))),
  Stream.filter(({ round }) => round === 2),
  Stream.map((revision) => Sample.comparison(Sample.revised(revision), revision.critique.response)),
  Preference.stage({ principles: 2, seed: 7 })
)

export const models = Layer.mergeAll(
  MockLanguageModel.make(({ id }) => `A text for ${id.split("/").slice(1).join(" ")}.`).layer,
  MockDecisionModel.make(({ a }) => (a.includes("revision 2") ? 0.8 : 0.3)).layer,
  Constitution.layerShipped
)

export const program = preferences.pipe(
  Stream.map(({ comparison, principle, probability }) => {
    const better = `${Math.round(probability * 100)} % for ${JSON.stringify(comparison.first.text)}`
    return `${comparison.prompt.text} ${better}, asked about ${principle}`
  }),
  Stream.tap((line) => Console.log(line)),
  Stream.runCollect,
  Effect.provide(models)
)

if (import.meta.main) await Effect.runPromise(program)
