/**
 * Feedback: who answers first, who criticises and rewrites, and who judges. Each is the base, unless another is given.
 *
 * @example
 * // A hosted model judges, the base does the rest.
 * const hosted = OpenAiDecisionModel.layer().pipe(Layer.provide(OpenAiClient.layerConfig()))
 * yield* ConstitutionalAi.run(settings, sets).pipe(Effect.provide(Feedback.layerJudge("openai gpt-5", hosted)))
 */
import { Context, Effect, Layer, Option } from "effect"
import { DecisionModel, LanguageModel, Model } from "effect/ai"
import { Models } from "../Models.ts"
import * as OnnxDecisionModel from "../providers/onnx/OnnxDecisionModel.ts"
import * as OnnxLanguageModel from "../providers/onnx/OnnxLanguageModel.ts"
import * as Calls from "./Calls.ts"

/** A model in place of the base. */
interface Given<A> {
  /** What determines its answers, in words: other words are another model, whose part of a run is done anew. */
  readonly name: string
  readonly services: Context.Context<A>
}

const reference = <A>(name: string) =>
  Context.Reference<Given<A> | undefined>(`charter/Feedback/${name}`, { defaultValue: () => undefined })

const Assistant = reference<LanguageModel.LanguageModel>("Assistant")
const Critic = reference<LanguageModel.LanguageModel>("Critic")
const Judge = reference<DecisionModel.DecisionModel>("Judge")

const given =
  <A>(who: Context.Reference<Given<A> | undefined>) =>
  <E, R>(name: string, layer: Layer.Layer<A, E, R>): Layer.Layer<never, E, R> =>
    Layer.effect(
      who,
      Effect.map(Layer.build(layer), (services) => ({ name, services: keep(name, services) }))
    )

/** The models among the services with their calls kept. */
const keep = <A>(name: string, services: Context.Context<A>): Context.Context<A> => {
  const text = Context.getOption(services, LanguageModel.LanguageModel)
  const judge = Context.getOption(services, DecisionModel.DecisionModel)
  const kept = [
    ...(Option.isNone(text) ? [] : [Context.make(LanguageModel.LanguageModel, Calls.languageModel(name, text.value))]),
    ...(Option.isNone(judge) ? [] : [Context.make(DecisionModel.DecisionModel, Calls.decisionModel(name, judge.value))])
  ]
  return Context.mergeAll(services, ...kept) as Context.Context<A>
}

/** Another model answers the prompts whose answers are revised. `name` says what determines its answers. */
export const layerAssistant = given(Assistant)

/** Another model criticises and rewrites the answers. `name` says what determines its answers. */
export const layerCritic = given(Critic)

/**
 * Another model judges pairs. `name` says what determines its answers. Where the layer has a LanguageModel as well, that
 * one writes what is thought before a choice.
 */
export const layerJudge = given(Judge)

/** The names of the models that were given; null stands for the base. */
export const names = Effect.gen(function* () {
  return {
    assistant: (yield* Assistant)?.name ?? null,
    critic: (yield* Critic)?.name ?? null,
    judge: (yield* Judge)?.name ?? null
  }
})

type Text = LanguageModel.LanguageModel | Model.ModelName

const text = (who: typeof Assistant): Layer.Layer<Text, never, Models> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const given = yield* who
      if (given === undefined) return OnnxLanguageModel.fromPolicy((yield* Models).base)
      return Layer.succeedContext(Context.merge(Context.make(Model.ModelName, given.name), given.services))
    })
  )

/** The model that answers prompts before anything is revised. */
export const assistant: Layer.Layer<Text, never, Models> = text(Assistant)

/** The model that criticises and rewrites. */
export const critic: Layer.Layer<Text, never, Models> = text(Critic)

/** The model that judges pairs. */
export const judge: Layer.Layer<DecisionModel.DecisionModel | Text, never, Models> = Layer.unwrap(
  Effect.gen(function* () {
    const { base } = yield* Models
    const given = yield* Judge
    const own = Layer.merge(OnnxLanguageModel.fromPolicy(base), OnnxDecisionModel.fromPolicy(base))
    if (given === undefined) return own
    const named = Context.merge(Context.make(Model.ModelName, given.name), given.services)
    return Layer.merge(own, Layer.succeedContext(named))
  })
)
