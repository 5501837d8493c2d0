/**
 * OpenAiScore: the log-probabilities of a given text, where a server gives them for what it reads.
 *
 * - `echo`: completions give back the prompt with its log-probabilities (vLLM, SGLang, OpenAI's base models). The
 *   context is a literal text.
 * - `prompt_logprobs`: vLLM's own field, for turns as well: the text goes on with the unfinished turn of the assistant,
 *   for which the client has to have `prefix: "continue"`.
 *
 * Servers that do neither (llama.cpp, Ollama, OpenAI's chat models, Anthropic) are a failure that says so.
 *
 * @example
 * const { logprob } = yield* OpenAiScore.of({ context: "The capital of France is", completion: " Paris" })
 */
import { Effect } from "effect"
import type { AiError } from "effect/ai"
import type { ModelContext } from "../../Policy.ts"
import { unsupported, unusable } from "../http/Failure.ts"
import type { Tokens } from "../http/Tokens.ts"
import type { Position } from "./OpenAiAnswer.ts"
import { OpenAiClient } from "./OpenAiClient.ts"

/** How the server is asked. */
export type By = "echo" | "prompt_logprobs"

export interface Request {
  readonly context: ModelContext
  /** What follows the context, with the space that it may begin with. */
  readonly completion: string
  /** `echo` if not given. */
  readonly by?: By | undefined
  /** What it is counted under, see `Usage`. */
  readonly principle?: string | undefined
}

/** The tokens of a completion; the first may hold the end of the context as well, where one token spans both. */
export interface Score {
  readonly tokens: ReadonlyArray<string>
  /** In nats, [tokens]. */
  readonly token_logprobs: ReadonlyArray<number>
  /** Their sum. */
  readonly logprob: number
  readonly model: string
  readonly usage: Tokens
}

const module = "OpenAiScore"

const others = "choose `logprobs` or votes, or a server that gives them, such as vLLM"

/** The positions at the end that spell the completion; undefined where they do not. */
const ending = (completion: string, positions: ReadonlyArray<Position>): ReadonlyArray<Position> | undefined => {
  // A tokenizer may leave out a space, or put it to the token before.
  const spelt = completion.trimStart()
  let text = ""
  let from = positions.length
  while (from > 0 && text.length < completion.length) text = `${positions[--from]!.token}${text}`
  return spelt !== "" && text.trimStart().length >= spelt.length && text.endsWith(spelt)
    ? positions.slice(from)
    : undefined
}

/** Whether a token is a part of a character: servers write the bytes, or that they are no text. */
const isPiece = (token: string): boolean => token.includes("\ufffd") || token.startsWith("bytes:")

const withCompletion = (context: ModelContext, completion: string): ModelContext =>
  typeof context === "string"
    ? `${context}${completion}`
    : {
        ...context,
        prefix: `${context.prefix ?? ""}${context.prefix === undefined ? completion.trimStart() : completion}`
      }

/**
 * The log-probabilities of `completion` after `context` under the server's model, at temperature 1. Fails with an
 * `InvalidRequestError` where the server does not give them, and with an `InvalidOutputError` where it cuts a character
 * of the completion into several tokens: which of them are the completion's cannot be told.
 */
export const of = Effect.fnUntraced(function* ({
  context,
  completion,
  by = "echo",
  principle
}: Request): Effect.fn.Return<Score, AiError.AiError, OpenAiClient> {
  const client = yield* OpenAiClient
  const refuse = (what: string) => unsupported(module, "of", what)
  if (typeof context !== "string" && by === "echo") {
    return yield* refuse("`echo` needs a literal transcript: use Transcript.humanAssistant")
  }
  if (typeof context === "string" && !client.completes) {
    return yield* refuse('a literal text is scored where it is completed: give the client `literal: "complete"`')
  }
  if (typeof context !== "string" && !client.continues) {
    return yield* refuse('`prompt_logprobs` of turns goes on with one: give the client `prefix: "continue"`')
  }
  const answer = yield* client.ask({
    method: "of",
    context: withCompletion(context, completion),
    // Some servers refuse to write nothing at all.
    maxTokens: 1,
    temperature: 0,
    seed: 0,
    stop: [],
    ...(by === "echo" ? { logprobs: 1, echo: true } : { promptLogprobs: true }),
    sample: undefined,
    principle
  })
  const read =
    by === "echo"
      ? // What was written after the prompt is left out.
        answer.positions?.slice(0, answer.positions.length - (answer.tokens.output || 1))
      : answer.promptPositions
  const found = read === undefined ? undefined : ending(completion, read)
  const logprobs = found?.flatMap(({ logprob }) => logprob ?? [])
  if (found === undefined && read?.some(({ token }) => isPiece(token))) {
    const description = "a character is cut into several tokens, which do not spell the completion; leave it out"
    return yield* unusable(module, "of", description)
  }
  if (found === undefined || logprobs === undefined || logprobs.length < found.length) {
    return yield* refuse(`"${client.model}" gives no log-probabilities of what it reads by \`${by}\`: ${others}`)
  }
  return {
    tokens: found.map(({ token }) => token),
    token_logprobs: logprobs,
    logprob: logprobs.reduce((sum, x) => sum + x, 0),
    model: answer.model,
    usage: answer.tokens
  }
})
