/**
 * MockDecisionModel: a judge that follows a script of probabilities of (A) and remembers what it was asked.
 *
 * @example
 * MockDecisionModel.make(0.9) // always prefers (A), as a judge with a position bias does
 * MockDecisionModel.make(({ a, b }) => (a.length < b.length ? 0.8 : 0.2)) // prefers the shorter answer
 */
import { Effect, Layer } from "effect"
import { AiError, DecisionModel } from "effect/ai"
import * as Sampling from "../Sampling.ts"
import * as Script from "./Script.ts"

/** A call: the question, the two answers in the order shown, and what the transcript made of them. */
export interface Call {
  readonly instructions: string
  readonly a: string
  readonly b: string
  readonly sampling: Sampling.Sampling
}

export interface MockDecisionModel {
  readonly layer: Layer.Layer<DecisionModel.DecisionModel>
  readonly calls: ReadonlyArray<Call>
}

const failure = (description: string) =>
  AiError.make({
    module: "MockDecisionModel",
    method: "decide",
    reason: new AiError.InternalProviderError({ description })
  })

/** A judge that gives the probabilities of (A) in `script`. */
export const make = (script: Script.Script<Call, number>, options: Script.Options = {}): MockDecisionModel => {
  const { calls, play } = Script.player<Call, number>(script, options.failOn)
  return {
    calls,
    layer: Layer.effect(
      DecisionModel.DecisionModel,
      DecisionModel.make({
        decide: Effect.fnUntraced(function* ({ decisions }) {
          const sampling = yield* Sampling.Sampling
          const answers: Record<string, DecisionModel.ProviderAnswer> = {}
          for (const [key, decision] of Object.entries(decisions)) {
            if (decision._tag !== "Classify") return yield* failure(`"${key}" is not a classification`)
            const [A, B] = Object.keys(decision.criteria)
            const { [A!]: a, [B!]: b } = decision.criteria
            const call = { instructions: String(decision.instructions), a: String(a), b: String(b), sampling }
            const p = yield* play(call, (n) => failure(`call ${n} is scripted to fail`))
            answers[key] = { _tag: "Classify", label: p >= 0.5 ? A! : B!, probabilities: { [A!]: p, [B!]: 1 - p } }
          }
          const usage = { inputTokens: undefined, outputTokens: undefined }
          return { answers, usage, modelId: options.model ?? "mock-judge" }
        })
      })
    )
  }
}
