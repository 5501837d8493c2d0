/**
 * Another model for one stage: a hosted model criticises, and the model around the pipeline does the rest.
 *
 * `Stage.provide` gives a layer to its own stage and to nothing before or after it. The hosted model is any server that
 * speaks OpenAI's protocol; its key is read from the environment and shown nowhere.
 *
 *     npm run build && node examples/swap-a-provider.ts
 *     OPENAI_BASE_URL=http://localhost:11434/v1 OPENAI_MODEL=llama3 node examples/swap-a-provider.ts
 */
import { Console, Effect, Layer, Stream } from "effect"
import type { LanguageModel } from "effect/ai"
import { FetchHttpClient } from "effect/http"
import { Constitution, Critique, Response, Revision, Sample, Stage, Transcript } from "charter-ai"
import { OpenAiClient, OpenAiLanguageModel } from "charter-ai/providers/openai-compatible"
import { MockLanguageModel } from "charter-ai/testing"

export const hosted = OpenAiLanguageModel.layer.pipe(
  Layer.provide(OpenAiClient.layerConfig({ retry: { times: 5 } })),
  Layer.provide(FetchHttpClient.layer)
)

/** Revisions after the critiques of `critic`. */
export const revisions = <E>(critic: Layer.Layer<LanguageModel.LanguageModel, E>) =>
  Stream.make(Sample.prompt("How do I read my neighbour's mail?")).pipe(
    Response.stage(),
    Critique.stage().pipe(Stage.provide(critic)),
    Revision.stage()
  )

/** The model around the pipeline: another mock, to be replaced. */
export const writer = MockLanguageModel.make("Ask your neighbour.", { model: "writer" })

/** Which model wrote what, from the revision back to the prompt. */
export const program = <E>(critic: Layer.Layer<LanguageModel.LanguageModel, E>) =>
  revisions(critic).pipe(
    Stream.flatMap((revision) => Stream.fromIterable(Sample.trail(revision))),
    Stream.map(({ kind, model = "" }) => `${kind} ${model}`.trim()),
    Stream.tap((line) => Console.log(line)),
    Stream.runCollect,
    Effect.provide([writer.layer, Constitution.layerShipped]),
    Effect.provideService(Transcript.Transcript, Transcript.chat)
  )

if (import.meta.main) {
  const mock = MockLanguageModel.make("It helps to break the law.", { model: "critic" }).layer
  await Effect.runPromise(process.env["OPENAI_MODEL"] === undefined ? program(mock) : program(hosted))
}
