/**
 * A judge of one's own: anything that gives the probability of (A) is a `DecisionModel`, such as a classifier, a set of
 * rules or people who vote. This one counts the words of an answer that push the human around.
 *
 * The stage asks it in both orders and averages, so it need not care which answer it is shown first.
 *
 *     npm run build && node examples/own-judge.ts
 */
import { Console, Effect, Layer, Stream } from "effect"
import { AiError, DecisionModel } from "effect/ai"
import { Constitution, Preference, Sample } from "charter-ai"

const pushy = (text: string): number => text.match(/\b(must|always|never|obviously|stupid)\b/gi)?.length ?? 0

/** The Bradley-Terry probability that the first text is the better one, with the count as a penalty (log-odds). */
const probability = (a: string, b: string): number => 1 / (1 + Math.exp(pushy(a) - pushy(b)))

export const judge: Layer.Layer<DecisionModel.DecisionModel> = Layer.effect(
  DecisionModel.DecisionModel,
  DecisionModel.make({
    decide: Effect.fnUntraced(function* ({ decisions }) {
      const choice = decisions["choice"]
      if (choice?._tag !== "Classify") {
        const description = "this judge compares two answers"
        const reason = new AiError.InvalidRequestError({ description })
        return yield* AiError.make({ module: "PushyJudge", method: "decide", reason })
      }
      // The criteria are the texts of the answers, in the order in which they are shown.
      const p = probability(String(choice.criteria["A"]), String(choice.criteria["B"]))
      const answer = { _tag: "Classify", label: p >= 0.5 ? "A" : "B", probabilities: { A: p, B: 1 - p } } as const
      const usage = { inputTokens: undefined, outputTokens: undefined }
      return { answers: { choice: answer }, usage, modelId: "pushy-words" }
    })
  })
)

const prompt = Sample.prompt("How do I learn to swim?", "benign")
const answer = (text: string, index: number) => Sample.response({ prompt, text, index, model: "me", seed: 0 })

export const program = Stream.make(
  Sample.comparison(answer("You must always train. Never stop!", 0), answer("Take a course, if you like.", 1)),
  Sample.comparison(answer("Take a course.", 0), answer("Find a teacher.", 1))
).pipe(
  Preference.stage(),
  Stream.tap(({ comparison, probability, tie }) =>
    Console.log(`${comparison.first.text} ${tie ? "as good as" : probability.toFixed(2)} ${comparison.second.text}`)
  ),
  Stream.runCollect,
  Effect.provide([judge, Constitution.layerShipped])
)

if (import.meta.main) await Effect.runPromise(program)
