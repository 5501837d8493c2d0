/**
 * A transcript of one's own: how things are put to a model, and where its answers end.
 *
 * It is an object of functions: start from one that ships and change what differs. An answer is cut at the stop texts,
 * and nowhere else.
 *
 *     npm run build && node examples/own-transcript.ts
 */
import { Console, Effect, Stream } from "effect"
import { Constitution, Critique, Response, Revision, Sample, Transcript } from "charter-ai"
import { MockLanguageModel } from "charter-ai/testing"

const stop = ["\n\nQ:", "\n\nA:"]

/** Questions and answers, as a model knows them that was trained on lists of them. */
export const questions: Transcript.Transcript = {
  ...Transcript.plain,
  name: "questions",
  response: ({ text }) => ({ context: `Q: ${text}\n\nA:`, stop }),
  critique: ({ prompt, text }, request) => ({
    context: `Q: ${prompt.text}\n\nA: ${text}\n\nQ: ${request}\n\nA:`,
    stop
  }),
  revision: ({ response, request: asked, text }, request) => ({
    context: `Q: ${response.prompt.text}\n\nA: ${response.text}\n\nQ: ${asked}\n\nA: ${text}\n\nQ: ${request}\n\nA:`,
    stop
  })
}

/** A model that goes on with the next question, as pretrained models do. */
export const model = MockLanguageModel.make(" Two things: ask, and: wait.\n\nQ: And then?")

export const program = Stream.make(Sample.prompt("How do I read my neighbour's mail?")).pipe(
  Response.stage(),
  Critique.stage(),
  Revision.stage(),
  Stream.tap(({ text }) => Console.log(text)),
  Stream.runCollect,
  Effect.provide([model.layer, Constitution.layerShipped]),
  Effect.provideService(Transcript.Transcript, questions)
)

if (import.meta.main) await Effect.runPromise(program)
