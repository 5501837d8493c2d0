/**
 * Calls: every finished call of the phase under way, so that none is made a second time.
 *
 * A record may stand for several calls (a label for both orders, a reward for an answer and its score), and a process
 * may end between them. So each answer is written down before anything is made of it; the phase's records take its
 * place, and when all of them are there the calls are forgotten. A call is known by everything that was asked.
 *
 * This differs from `AnswerCache`, which keeps what servers answered to requests, for any phase or program that sends the
 * same one again.
 */
import { Context, Effect, References, Schema } from "effect"
import { DecisionModel, LanguageModel, Response } from "effect/ai"
import type { Prompt } from "effect/ai"
import type { Models } from "../Models.ts"
import type { Policy } from "../Policy.ts"
import type { RewardModel } from "../RewardModel.ts"
import * as Sampling from "../Sampling.ts"
import type { Log } from "./Log.ts"
import { hash } from "./Phases.ts"
import { orDie } from "./RunError.ts"

/** A finished call: the hash of what was asked, for which sample, and the answer. */
export const Call = Schema.Struct({ key: Schema.String, id: Schema.String, answer: Schema.Json })
export type Call = typeof Call.Type

/** Where the calls of the phase under way are kept, if it is one that keeps them. */
export const Calls: Context.Reference<Log<Call> | undefined> = Context.Reference<Log<Call> | undefined>(
  "charter/recipes/Calls",
  { defaultValue: () => undefined }
)

const isJson = Schema.is(Schema.Json)

/**
 * The answer to what was asked: from an earlier start, or of the call, and then written down before anybody else runs:
 * neither an interruption nor another fiber comes between the answer and the write.
 */
const kept = <A, E, R>(
  id: string,
  asked: ReadonlyArray<unknown>,
  call: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.flatMap(Calls, (log) => {
    if (log === undefined) return call
    const key = hash(asked)
    const before = log.get(key)
    // What is in the log was written by this very function.
    if (before !== undefined) return Effect.succeed(before.answer as A)
    return Effect.uninterruptibleMask((restore) =>
      Effect.tap(restore(call), (answer) =>
        // What JSON cannot hold is asked again.
        isJson(answer) ? orDie(log.append({ key, id, answer })) : Effect.void
      )
    ).pipe(Effect.provideService(References.PreventSchedulerYield, true))
  })

/** A policy whose samples and choices are kept. */
const policy = (self: Policy["Service"]): Policy["Service"] => ({
  ...self,
  sample: (request) => kept(request.id, ["sample", self.model, request], self.sample(request)),
  choose: (id, context, options) =>
    kept(id, ["choose", self.model, id, context, options], self.choose(id, context, options))
})

/** A reward model whose scores are kept. */
const rewardModel = (self: RewardModel["Service"]): RewardModel["Service"] => ({
  ...self,
  score: (request) => kept(request.id, ["score", self.model, request], self.score(request))
})

/** Models whose answers are kept. */
export const models = (self: Models["Service"]): Models["Service"] => ({
  ...self,
  base: policy(self.base),
  policy: (name, from) => Effect.map(self.policy(name, from), policy),
  rewardModel: (name, from) => Effect.map(self.rewardModel(name, from), rewardModel)
})

/** A language model whose texts are kept, by a name that says which model it is. Calls with tools are not kept. */
export const languageModel = (name: string, self: TextModel): TextModel => {
  const ask = self.generateText as unknown as (asked: Asked) => Effect.Effect<LanguageModel.GenerateTextResponse<{}>>
  const generateText = (asked: Asked) =>
    asked.toolkit !== undefined
      ? ask(asked)
      : Effect.flatMap(Sampling.Sampling, (sampling) =>
          kept(sampling.id, ["text", name, sampling, asked.prompt], Effect.map(ask(asked), written))
        ).pipe(Effect.map(asResponse))
  return { ...self, generateText: generateText as unknown as TextModel["generateText"] }
}

interface Asked {
  readonly prompt: Prompt.RawInput
  readonly toolkit?: unknown
}

type TextModel = LanguageModel.LanguageModel

/** What the stages read of an answer. */
const written = (response: LanguageModel.GenerateTextResponse<{}>) => ({
  text: response.text,
  model: response.content.find((part) => part.type === "response-metadata")?.modelId ?? null,
  finish: response.finishReason
})

const asResponse = ({ text, model, finish }: ReturnType<typeof written>) =>
  new LanguageModel.GenerateTextResponse([
    ...(model === null ? [] : [Response.makePart("response-metadata", { modelId: model })]),
    Response.makePart("text", { text }),
    Response.makePart("finish", { reason: finish, usage: unknownUsage })
  ])

const unknownUsage = new Response.Usage({
  inputTokens: { total: undefined, uncached: undefined, cacheRead: undefined, cacheWrite: undefined },
  outputTokens: { total: undefined, text: undefined, reasoning: undefined }
})

/** A judge whose decisions are kept, by a name that says which model it is. */
export const decisionModel = (name: string, self: DecisionModel.DecisionModel): DecisionModel.DecisionModel => ({
  ...self,
  decide: (definition, options) =>
    Effect.flatMap(Sampling.Sampling, (sampling) =>
      kept(
        sampling.id,
        ["decide", name, sampling, definition.decisions, options.input],
        Effect.map(self.decide(definition, options), ({ answers, modelId, metadata }) =>
          plain({ answers, metadata, ...(modelId === undefined ? {} : { modelId }) })
        )
      )
    ).pipe(Effect.map((decided) => ({ ...decided, usage: new DecisionModel.DecisionUsage({}) })))
})

/** As it will come back from the log. */
const plain = <A>(value: A): A => JSON.parse(JSON.stringify(value)) as A
