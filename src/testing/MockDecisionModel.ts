/**
 * MockDecisionModel: a judge that follows a script of probabilities of (A) and remembers what it was asked.
 *
 * @example
 * MockDecisionModel.make(0.9) // always prefers (A), as a judge with a position bias does
 * MockDecisionModel.make(({ a, b }) => (a.length < b.length ? 0.8 : 0.2)) // prefers the shorter answer
 */
import { Effect, Layer } from "effect"
import { AiError, DecisionModel } from "effect/ai"
import type { Decision } from "effect/ai"
import * as Sampling from "../Sampling.ts"
import * as Recording from "./Recording.ts"
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

/** The labels of a question between two, and the call that it is. */
const read = ({ instructions, criteria }: Decision.Classify<string>, sampling: Sampling.Sampling) => {
  const [A = "", B = ""] = Object.keys(criteria)
  const call: Call = { instructions: String(instructions), a: String(criteria[A]), b: String(criteria[B]), sampling }
  return { A, B, call }
}

/** A judge that gives the probabilities of (A) in `script`. */
export const make = (script: Script.Script<Call, number>, options: Script.Options = {}): MockDecisionModel => {
  const modelId = options.model ?? "mock-judge"
  const { calls, play } = Script.player<Call, number>(script, options, modelId)
  const usage = { inputTokens: undefined, outputTokens: undefined }

  const decide = Effect.fnUntraced(function* (decisions: Readonly<Record<string, Decision.Any>>) {
    const sampling = yield* Sampling.Sampling
    const answers: Record<string, DecisionModel.ProviderClassifyAnswer> = {}
    for (const [key, decision] of Object.entries(decisions)) {
      if (decision._tag !== "Classify") return yield* failure(`"${key}" is not a classification`)
      const labels = Object.keys(decision.criteria).length
      if (labels !== 2) return yield* failure(`"${key}" has ${labels} labels, and the script knows (A) and (B) alone`)
      const { A, B, call } = read(decision, sampling)
      const p = yield* play(call, failure)
      if (!(p >= 0 && p <= 1)) return yield* failure(`the script says ${p}, which is no probability`)
      answers[key] = { _tag: "Classify", label: p >= 0.5 ? A : B, probabilities: { [A]: p, [B]: 1 - p } }
    }
    return { answers, usage, modelId }
  })

  const layer = Layer.effect(
    DecisionModel.DecisionModel,
    Effect.map(DecisionModel.make({ decide: ({ decisions }) => decide(decisions) }), (model) =>
      DecisionModel.DecisionModel.of({
        ...model,
        // `DecisionModel.make` checks each answer of a provider, which takes longer than a stage does.
        decide: ((definition: Decision.Definition<never, Record<string, Decision.Any>>) =>
          Effect.map(decide(definition.decisions), (response) => ({ ...response, metadata: {} }))) as never
      })
    )
  )
  return { calls, layer }
}

/** What determines an answer. */
const keyOf = ({ instructions, a, b, sampling }: Call) =>
  Recording.keyOf("decision-model", { instructions, a, b, ...sampling, principle: undefined })

/** The judge around it, with its probabilities written into a recording; give it the real one with `Layer.provide`. */
export const record = (
  recording: Recording.Recording
): Layer.Layer<DecisionModel.DecisionModel, never, DecisionModel.DecisionModel> =>
  Layer.effect(
    DecisionModel.DecisionModel,
    Effect.map(DecisionModel.DecisionModel, (real) =>
      DecisionModel.DecisionModel.of({
        ...real,
        decide: (definition, asked) =>
          Effect.flatMap(Sampling.Sampling, (sampling) =>
            Effect.tap(real.decide(definition, asked), ({ answers }) =>
              Effect.sync(() => {
                for (const [key, decision] of Object.entries<Decision.Any>(definition.decisions)) {
                  if (decision._tag !== "Classify") continue
                  const { A, call } = read(decision, sampling)
                  const { probabilities } = answers[key] as { readonly probabilities: Readonly<Record<string, number>> }
                  recording.set(keyOf(call), sampling.id, probabilities[A] ?? 0)
                }
              })
            )
          )
      })
    )
  )

/** A judge that answers from a recording. */
export const replay = (recording: Recording.Recording, options: Script.Options = {}): MockDecisionModel =>
  make((call) => recording.get(keyOf(call)) as number | undefined, options)
