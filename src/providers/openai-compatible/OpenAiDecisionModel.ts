/**
 * OpenAiDecisionModel: `effect/ai`'s DecisionModel over a server that speaks OpenAI's protocol.
 *
 * There are three ways, and the one that was chosen is the one that is used: a server that cannot do it is a failure
 * that says so, never another kind of label.
 *
 * - `logprobs` (the default): the probabilities of the options where the model begins to choose.
 * - `echo`, `prompt_logprobs`: the log-probabilities of the whole options after the context, as a local model gives them,
 *   see {@link OpenAiScore}.
 * - `{ votes: k }`: the shares of k samples, for servers without log-probabilities.
 */
import { Effect, Layer } from "effect"
import { DecisionModel } from "effect/ai"
import type { Model } from "effect/ai"
import * as Choice from "../http/Choice.ts"
import { unsupported, unusable } from "../http/Failure.ts"
import * as Judge from "../http/Judge.ts"
import * as Named from "../http/Named.ts"
import * as Tokens from "../http/Tokens.ts"
import type { Position } from "./OpenAiAnswer.ts"
import { OpenAiClient } from "./OpenAiClient.ts"
import * as OpenAiScore from "./OpenAiScore.ts"

/** How a label is got: by log-probabilities at the choice, of the whole options, or by votes. */
export type Method = "logprobs" | OpenAiScore.By | { readonly votes: number }

export interface Options {
  readonly method?: Method | undefined
  /** How many of the likeliest tokens the server is asked for; 20 if not given, which is OpenAI's limit. */
  readonly topLogprobs?: number | undefined
  /** How long an answer to be read may get, for votes; 16 tokens if not given. */
  readonly maxTokens?: number | undefined
}

const module = "OpenAiDecisionModel"

const others = "use a server that gives them, or choose `method: { votes: 8 }` (in a run, --set hosted.votes=8)"

/**
 * The options have at least this much probability together where a label is read. Below it the model is about to write
 * something else, such as a refusal, and which option's tail weighs more is chance: normalised, it would be certainty.
 * A model that begins with other words but does choose between the options stays well above.
 */
const leastMass = 0.01

/**
 * The probabilities of the options, normalised over them: tokens that begin the same one, with and without a space
 * before, are summed. An option that is not among the listed tokens has probability 0; undefined where all of them
 * together have less than {@link leastMass}.
 */
export const probabilities = (choice: Choice.Choice, { top }: Position): ReadonlyArray<number> | undefined => {
  const mass = choice.options.map(() => 0)
  for (const [token, logprob] of top) {
    const option = Choice.ofToken(choice, token)
    if (typeof option === "number") mass[option]! += Math.exp(logprob)
  }
  const total = mass.reduce((sum, x) => sum + x, 0)
  return total < leastMass ? undefined : mass.map((x) => x / total)
}

/** The service over a client. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const client = yield* OpenAiClient
  const method = options.method ?? "logprobs"

  const byLogprobs = Effect.fnUntraced(function* ({ context, choice, principle }: Judge.Question) {
    const begun = typeof context === "string" ? client.completes : context.prefix !== undefined && client.continues
    const given = !begun
      ? context
      : typeof context === "string"
        ? `${context}${choice.before}`
        : { ...context, prefix: `${context.prefix}${choice.before}` }
    const answer = yield* client.ask({
      method: "decide",
      context: given,
      instruction: Judge.instruction(choice),
      // A turn of its own may begin with a bracket.
      maxTokens: begun ? 1 : 4,
      temperature: 0,
      seed: 0,
      stop: [],
      logprobs: options.topLogprobs ?? 20,
      sample: undefined,
      principle
    })
    const lists = answer.positions?.filter(({ top }) => top.length > 0) ?? []
    if (answer.positions === undefined || lists.length === 0) {
      // That is about these two answers, and says nothing of what the server can do.
      if (answer.finish === "content-filter") {
        return yield* unusable(module, "decide", `the content filter of "${client.model}" withheld the choice`)
      }
      // Nor is there a place to read where nothing was written at all.
      if (answer.text === "" && answer.finish === "stop") {
        return yield* unusable(module, "decide", `"${client.model}" wrote nothing in place of a choice`)
      }
      const description = `the server gives no log-probabilities for "${client.model}": ${others}`
      return yield* unsupported(module, "decide", description)
    }
    const place = answer.positions.find(({ token }) => Choice.ofToken(choice, token) !== "nothing")
    const found = place === undefined ? undefined : probabilities(choice, place)
    if (found === undefined) {
      const description = `no option is among the likeliest tokens; the model wrote ${JSON.stringify(answer.text)}`
      return yield* unusable(module, "decide", description)
    }
    const { text, model, tokens } = answer
    return { probabilities: found, method: "logprobs", texts: [text], model, tokens } satisfies Judge.Verdict
  })

  const byScore = Effect.fnUntraced(function* ({ context, choice, principle }: Judge.Question, by: OpenAiScore.By) {
    const scores = yield* Effect.forEach(
      choice.options,
      (completion) => OpenAiScore.of({ context, completion, by, principle }),
      { concurrency: "unbounded" }
    ).pipe(Effect.provideService(OpenAiClient, client))
    const max = Math.max(...scores.map(({ logprob }) => logprob))
    const mass = scores.map(({ logprob }) => Math.exp(logprob - max))
    const total = mass.reduce((sum, x) => sum + x, 0)
    return {
      probabilities: mass.map((x) => x / total),
      method: by,
      texts: [],
      model: scores[0]!.model,
      tokens: scores.map(({ usage }) => usage).reduce(Tokens.add, Tokens.zero)
    } satisfies Judge.Verdict
  })

  return yield* Judge.make(module, (question) => {
    if (method === "logprobs") return byLogprobs(question)
    if (typeof method === "string") return byScore(question, method)
    return Judge.poll(module, question, { ...options, votes: method.votes }, client.ask)
  })
})

/** The judge over the client in force, with its name. */
export const layer = (
  options: Options = {}
): Layer.Layer<DecisionModel.DecisionModel | Model.ModelName, never, OpenAiClient> =>
  Layer.merge(Layer.effect(DecisionModel.DecisionModel, make(options)), Named.layer(OpenAiClient))
