/**
 * Chat templates: a conversation as the one text its model was trained on.
 *
 * Templates are Jinja, rendered as transformers renders them: `trim_blocks` and `lstrip_blocks` are on, and
 * `raise_exception` and `strftime_now` are there (https://huggingface.co/docs/transformers/chat_templating).
 */
import { Template } from "@huggingface/jinja"
import { Effect, Option, Schema } from "effect"
import * as path from "node:path"
import * as Bounded from "./Bounded.ts"
import * as ModelFile from "./ModelFile.ts"
import { quoted, reason as reasonOf } from "./Quoted.ts"
import * as TemplatePython from "./TemplatePython.ts"
import * as TokenizerConfig from "./TokenizerConfig.ts"

/** A chat template that is not understood, or that refuses a conversation. */
export class ChatTemplateError extends Schema.TaggedError<ChatTemplateError>()("ChatTemplateError", {
  file: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.file} ${this.reason}.`
  }
}

/** One turn of a conversation. */
export interface Message {
  /** Usually `system`, `user` or `assistant`; which ones there are is the template's matter. */
  readonly role: string
  readonly content: string
}

/** A model's chat template. */
export interface ChatTemplate {
  /**
   * A conversation as text. With `addGenerationPrompt` the text ends where the assistant's answer starts. Fails when
   * the template raises an exception, as many do for roles that do not alternate.
   */
  readonly render: (
    messages: ReadonlyArray<Message>,
    options?: { readonly addGenerationPrompt?: boolean }
  ) => Effect.Effect<string, ChatTemplateError>
  /** Whether it may write today's date: tomorrow the same conversation is another text. */
  readonly dated: boolean
}

/** A conversation takes a template some milliseconds; one that loops without end is stopped after this many. */
const patience = 2000

/** A template from its source; `file` names it in errors and `tokens` are its variables such as `bos_token`. */
export const make = (
  source: string,
  file: string,
  tokens: Readonly<Record<string, string>> = {}
): Effect.Effect<ChatTemplate, ChatTemplateError> =>
  Effect.map(
    Effect.try({
      try: () =>
        Bounded.within(patience, () => {
          // As Jinja reads it, whatever its line ends.
          const parsed = new Template(source.replaceAll(/\r\n?/g, "\n"))
          TemplatePython.rewrite(parsed.parsed)
          return parsed
        }),
      catch: (cause) =>
        new ChatTemplateError({
          file,
          reason: `has a chat template that is not understood: ${reasonOf(cause)}; correct its Jinja`
        })
    }),
    (template): ChatTemplate => ({
      dated: source.includes("strftime_now"),
      render: (messages, options) =>
        Effect.try({
          try: () =>
            Bounded.within(patience, () =>
              template.render({
                ...TemplatePython.variables,
                ...tokens,
                messages,
                // Templates ask whether these are none, which what is missing is not.
                tools: null,
                documents: null,
                add_generation_prompt: options?.addGenerationPrompt ?? false
              })
            ),
          catch: (cause) =>
            new ChatTemplateError({
              file,
              reason: `has a chat template that refuses the conversation: ${reasonOf(cause)}; give it the roles it expects`
            })
        })
    })
  )

/**
 * Loads the chat template of a model folder, if it has one: `chat_template.jinja`, or the `chat_template` of
 * `tokenizer_config.json`, of several the one named `default`. Fails when it is there and not understood.
 */
export const load = Effect.fn("ChatTemplate.load")(function* (
  dir: string
): Effect.fn.Return<Option.Option<ChatTemplate>, ChatTemplateError> {
  const config = yield* asTemplateError(TokenizerConfig.read(dir))
  const file = path.join(dir, "chat_template.jinja")
  const own = yield* asTemplateError(ModelFile.readText(file))
  if (own !== undefined) return Option.some(yield* make(own, file, config.tokens))

  const configFile = path.join(dir, "tokenizer_config.json")
  const found = config.chatTemplate
  if (found === undefined) return Option.none()
  if (typeof found === "string") return Option.some(yield* make(found, configFile, config.tokens))
  const named = found.find((entry) => entry.name === "default")
  if (named === undefined) {
    return yield* new ChatTemplateError({
      file: configFile,
      reason: `has the chat templates ${quoted(found.map((entry) => entry.name).join(", "))}; name one of them default`
    })
  }
  return Option.some(yield* make(named.template, configFile, config.tokens))
})

const asTemplateError = Effect.mapError(
  ({ file, reason }: ModelFile.CheckpointError) => new ChatTemplateError({ file, reason })
)
