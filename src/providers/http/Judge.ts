/**
 * Judge: `effect/ai`'s DecisionModel over a way of asking one question.
 *
 * @internal
 */
import { Effect } from "effect"
import { DecisionModel } from "effect/ai"
import type { AiError, Decision } from "effect/ai"
import type { ModelContext } from "../../Policy.ts"
import { positive } from "../../Positive.ts"
import * as Sampling from "../../Sampling.ts"
import * as Choice from "./Choice.ts"
import * as Draw from "./Draw.ts"
import { unsupported, unusable } from "./Failure.ts"
import * as Tokens from "./Tokens.ts"
import type { Asked, Written } from "./Written.ts"

/** One question with its options. */
export interface Question {
  readonly context: ModelContext
  readonly choice: Choice.Choice
  /** What is asked, which is the principle of a comparison. */
  readonly principle: string
}

/** The probability of each option, with what the model wrote and how it was read. */
export interface Verdict {
  readonly probabilities: ReadonlyArray<number>
  readonly method: "logprobs" | "echo" | "prompt_logprobs" | "votes"
  readonly texts: ReadonlyArray<string>
  readonly model: string
  readonly tokens: Tokens.Tokens
}

const words = (description: Decision.Description | null): string =>
  typeof description === "string" ? description : JSON.stringify(description)

/** A decision that no transcript has put into words. */
export const render = (state: unknown, { instructions, criteria }: Decision.Classify<string>): string => {
  const options = Object.entries(criteria).map(([label, text]) =>
    text === null ? `(${label})` : `(${label}) ${words(text)}`
  )
  const input = typeof state === "string" ? state : JSON.stringify(state)
  return `${input}\n\n${words(instructions)}\n\nOptions:\n${options.join("\n")}`
}

/** The same as a turn, with the first words of its answer. */
const turn = (state: unknown, decision: Decision.Classify<string>): ModelContext => ({
  messages: [{ role: "user", content: render(state, decision) }],
  prefix: "The answer is:"
})

/** The judge that asks questions with `ask`. What it wrote is in the metadata of its answer, under `charter`. */
export const make = (module: string, ask: (question: Question) => Effect.Effect<Verdict, AiError.AiError>) =>
  DecisionModel.make({
    decide: Effect.fnUntraced(function* ({ state, decisions }) {
      const sampling = yield* Sampling.Sampling
      const entries = Object.entries(decisions)
      // The context of a transcript holds one question.
      const alone = entries.length === 1
      const asked = yield* Effect.forEach(
        entries,
        Effect.fnUntraced(function* ([key, decision]) {
          if (decision._tag !== "Classify") {
            return yield* unsupported(module, "decide", `"${key}": this judge answers classifications only`)
          }
          const labels = Object.keys(decision.criteria)
          const options = (alone ? sampling.options : undefined) ?? labels.map((label) => ` (${label})`)
          if (options.length !== labels.length) {
            return yield* unsupported(module, "decide", `${options.length} texts for ${labels.length} labels`)
          }
          const context = (alone ? sampling.context : undefined) ?? turn(state, decision)
          const principle = words(decision.instructions)
          const verdict = yield* ask({ context, choice: Choice.make(options), principle })
          const best = verdict.probabilities.indexOf(Math.max(...verdict.probabilities))
          const probabilities = Object.fromEntries(labels.map((label, i) => [label, verdict.probabilities[i] ?? 0]))
          const answer = { _tag: "Classify" as const, label: labels[best] ?? labels[0]!, probabilities }
          return { key, verdict, answer }
        }),
        { concurrency: "unbounded" }
      )
      const tokens = asked.map(({ verdict }) => verdict.tokens).reduce(Tokens.add, Tokens.zero)
      const modelId = asked[0]?.verdict.model
      return {
        answers: Object.fromEntries(asked.map(({ key, answer }) => [key, answer])),
        usage: { inputTokens: tokens.input, outputTokens: tokens.output },
        ...(modelId === undefined ? {} : { modelId }),
        metadata: {
          charter: Object.fromEntries(
            asked.map(({ key, verdict }) => [key, { method: verdict.method, texts: [...verdict.texts] }])
          )
        }
      }
    })
  })

/** What a judge is told that cannot continue a text. */
export const instruction = ({ options }: Choice.Choice): string =>
  `Answer with one of ${options.map((option) => option.trim()).join(", ")} and nothing else.`

/** The share of `k` samples that name each option; samples that name none are left out, and all of them a failure. */
export const vote = Effect.fnUntraced(function* (
  module: string,
  { choice }: Question,
  k: number,
  sample: (vote: number) => Effect.Effect<Written, AiError.AiError>
) {
  const written = yield* Effect.forEach(
    Array.from({ length: positive("votes", k) }, (_, i) => i),
    sample,
    { concurrency: "unbounded" }
  )
  const texts = written.map(({ text }) => text)
  const votes = texts.flatMap((text) => Choice.ofText(choice, text) ?? [])
  if (votes.length === 0) {
    const description = `none of ${k} answers names an option: ${JSON.stringify(texts).slice(0, 300)}`
    return yield* unusable(module, "decide", description)
  }
  const verdict: Verdict = {
    probabilities: choice.options.map((_, i) => votes.filter((vote) => vote === i).length / votes.length),
    method: "votes",
    texts,
    model: written[0]!.model,
    tokens: written.map(({ tokens }) => tokens).reduce(Tokens.add, Tokens.zero)
  }
  return verdict
})

/** What a client is asked for one vote. */
interface AskedToVote extends Asked {
  readonly instruction: string
  readonly principle: string
}

/** How many samples of a client vote, and how long each may get: 8, and 16 tokens, if not given. */
export interface Votes {
  readonly votes?: number | undefined
  readonly maxTokens?: number | undefined
}

/** Asks a client for votes, which it samples as `Sampling` says: their shares. */
export const poll = Effect.fnUntraced(function* (
  module: string,
  question: Question,
  { votes: k = 8, maxTokens = 16 }: Votes,
  ask: (asked: AskedToVote) => Effect.Effect<Written, AiError.AiError>
) {
  const sampling = yield* Sampling.Sampling
  return yield* vote(module, question, k, (n) =>
    ask({
      method: "decide",
      context: question.context,
      instruction: instruction(question.choice),
      maxTokens,
      temperature: sampling.temperature,
      stop: sampling.stop,
      filters: sampling,
      principle: question.principle,
      ...Draw.make(sampling, n)
    })
  )
})
