/**
 * Messages: what a language model is asked, as text and turns.
 *
 * @internal
 */
import { Effect } from "effect"
import type { AiError, LanguageModel, Prompt } from "effect/ai"
import type { Message, ModelContext } from "../../Policy.ts"
import * as Sampling from "../../Sampling.ts"
import { unsupported } from "./Failure.ts"
import * as Transcript from "../../Transcript.ts"
import type { Written } from "./Written.ts"

const message = (module: string, { role, content }: Prompt.Message): Effect.Effect<Message, AiError.AiError> => {
  const only = (what: string) => Effect.fail(unsupported(module, "generateText", what))
  if (role === "tool") return only("this provider calls no tools; leave tool messages out")
  if (role === "system") return Effect.succeed({ role, content })
  const other = content.find((part) => part.type !== "text")
  if (other !== undefined) {
    return only(`this provider reads text only; leave parts of the type ${other.type} out of the prompt`)
  }
  return Effect.succeed({ role, content: content.map((part) => (part.type === "text" ? part.text : "")).join("") })
}

/** The stage's exact context, or the turns of a call that came from elsewhere. */
export const contextOf = Effect.fnUntraced(function* (module: string, options: LanguageModel.ProviderOptions) {
  const refuse = (what: string) => unsupported(module, "generateText", what)
  if (options.tools.length > 0) return yield* refuse("this provider calls no tools; call it without a toolkit")
  if (options.responseFormat.type === "json") return yield* refuse("this provider writes text; use generateText")
  const { context } = yield* Sampling.Sampling
  if (context !== undefined) return context
  const messages = yield* Effect.forEach(options.prompt.content, (each) => message(module, each))
  return { messages } satisfies ModelContext
})

/** What a model is told that answers turns, and is given a text to go on with. */
export const continuing =
  "Continue the text of the user exactly where it ends. Write only what comes next, nothing else."

/** The turns with `instruction` at the end of the last one of the user, for servers that continue no turn. */
export const instruct = (messages: ReadonlyArray<Message>, instruction: string): ReadonlyArray<Message> => {
  const last = messages.findLastIndex(({ role }) => role === "user")
  if (last < 0) return [...messages, { role: "user", content: instruction }]
  return messages.map((turn, i) => (i === last ? { ...turn, content: `${turn.content}\n\n${instruction}` } : turn))
}

/**
 * The text before the first of the stop texts: servers take only a few of them, and some none. It has ended there by
 * itself, whatever the server wrote after it.
 */
export const cut = <W extends Pick<Written, "text" | "finish">>(written: W, stop: ReadonlyArray<string>): W => {
  const text = Transcript.cut(written.text, stop)
  return text.length === written.text.length ? written : { ...written, text, finish: "stop" }
}
