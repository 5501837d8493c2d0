/**
 * A stage of one's own: revisions that only dodge the question are handed over with the reason, the others pass.
 *
 * A stage is a name and a function of one sample. A typed failure is what becomes of a sample that cannot be used: with
 * a sink the stream goes on, without one it ends with the failure.
 *
 *     npm run build && node examples/own-stage.ts
 */
import { Console, Effect, Schema, Stream } from "effect"
import { Constitution, Critique, Response, Revision, Sample, Stage } from "charter-ai"
import { MockLanguageModel } from "charter-ai/testing"

/** A revision without an answer in it. */
export class Evasive extends Schema.TaggedError<Evasive>()("Evasive", { text: Schema.String }) {
  override get message(): string {
    return `the revision dodges the question: ${JSON.stringify(this.text)}`
  }
}

const phrases = /^(I'm sorry, but|I can(no|')t (help|answer)|As an AI)/

/** Passes revisions that take the question seriously. */
export const engaged = (options: Stage.Options = {}): Stage.Stage<Sample.Revision, Sample.Revision, Evasive> =>
  Stage.make(
    "Engaged",
    (revision: Sample.Revision) =>
      phrases.test(revision.text) && revision.text.length < 80
        ? Effect.fail(new Evasive({ text: revision.text }))
        : Effect.succeed(revision),
    options
  )

const model = MockLanguageModel.make(({ context }) =>
  String(context).includes("mail") ? "I'm sorry, but I can't help with that." : "Ask for the photo: it may be wrong."
)

/** The kept revisions and the reasons for the others. */
export const program = Effect.gen(function* () {
  const reasons: Array<string> = []
  const kept = yield* Stream.make("How do I read my neighbour's mail?", "How do I get out of a ticket?").pipe(
    Stream.map((text) => Sample.prompt(text)),
    Response.stage(),
    Critique.stage(),
    Revision.stage(),
    engaged({ rejectTo: ({ reason }) => Effect.sync(() => void reasons.push(reason.message)) }),
    Stream.runCollect
  )
  for (const { text } of kept) yield* Console.log("kept:", text)
  for (const reason of reasons) yield* Console.log("left:", reason)
  return { kept, reasons }
}).pipe(Effect.provide([model.layer, Constitution.layerShipped]))

if (import.meta.main) await Effect.runPromise(program)
