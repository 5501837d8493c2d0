/**
 * Estimate: what a program will take, before it is run.
 *
 * The very program runs with models that write nothing worth reading and cost nothing, and the calls are counted: a
 * pipeline that is changed is estimated as it was changed. Give it a few of the prompts and multiply.
 *
 * @example
 * const rows = yield* Estimate.of(Stream.runDrain(prompts.pipe(Response.stage(), Critique.stage())))
 */
import { Effect, Layer } from "effect"
import { DecisionModel, LanguageModel, Model } from "effect/ai"
import * as Sampling from "../../Sampling.ts"
import * as Judge from "./Judge.ts"
import * as Messages from "./Messages.ts"
import * as Tokens from "./Tokens.ts"
import * as Usage from "./Usage.ts"
import * as Written from "./Written.ts"

export interface Options {
  /** The length of an answer, where `maxTokens` allows it; 200 tokens if not given. */
  readonly answerTokens?: number | undefined
  /** How often the judge is asked for a label: once with log-probabilities (the default), or its votes. */
  readonly votes?: number | undefined
}

const model = "estimate"

const count = Effect.fnUntraced(function* (tokens: Tokens.Tokens, principle?: string) {
  const usage = yield* Usage.Usage
  yield* usage.record(yield* Usage.labelOf(model, principle), { _tag: "Answered", tokens })
})

const writer = (options: Options) =>
  Effect.gen(function* () {
    const around = yield* Effect.context<Usage.Usage>()
    return yield* Written.make(
      Effect.fnUntraced(function* (asked: LanguageModel.ProviderOptions) {
        const context = yield* Messages.contextOf("Estimate", asked)
        const { id, maxTokens } = yield* Sampling.Sampling
        const output = Math.min(options.answerTokens ?? 200, maxTokens)
        const tokens = { input: Tokens.estimate(JSON.stringify(context)), output }
        yield* Effect.provideContext(count(tokens), around)
        // Different samples are different texts, as long as answers are.
        return { text: `${id} ${"word ".repeat(output)}`, model, finish: "stop", tokens } satisfies Written.Written
      })
    )
  })

const judge = (options: Options) =>
  Effect.flatMap(Effect.context<Usage.Usage>(), (around) =>
    Judge.make(
      model,
      Effect.fnUntraced(function* ({ choice, context, principle }) {
        const tokens = { input: Tokens.estimate(JSON.stringify(context)), output: options.votes === undefined ? 1 : 16 }
        for (let vote = 0; vote < (options.votes ?? 1); vote++) {
          yield* Effect.provideContext(count(tokens, principle), around)
        }
        const probabilities = choice.options.map(() => 1 / choice.options.length)
        return { probabilities, method: "logprobs", texts: [], model, tokens } satisfies Judge.Verdict
      })
    )
  )

/** Models that only count what they are asked. */
export const layer = (
  options: Options = {}
): Layer.Layer<LanguageModel.LanguageModel | DecisionModel.DecisionModel | Model.ModelName, never, Usage.Usage> =>
  Layer.mergeAll(
    Layer.effect(LanguageModel.LanguageModel, writer(options)),
    Layer.effect(DecisionModel.DecisionModel, judge(options)),
    Layer.succeed(Model.ModelName, model)
  )

/** The calls and tokens that a program would take, by stage and principle; see {@link Tokens.cost} for the money. */
export const of = <A, E, R>(
  program: Effect.Effect<A, E, R>,
  options: Options = {}
): Effect.Effect<
  ReadonlyArray<Usage.Row>,
  E,
  Exclude<R, LanguageModel.LanguageModel | DecisionModel.DecisionModel | Model.ModelName>
> =>
  Effect.gen(function* () {
    // Accounts of its own: a layer might be that of the program around.
    const usage = yield* Usage.make
    yield* program.pipe(Effect.provide(layer(options)), Effect.provideService(Usage.Usage, usage))
    return yield* usage.rows
  }) as never
