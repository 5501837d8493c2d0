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

/** One turn of a conversation. Whatever else it has, such as `reasoning_content` or `tool_calls`, a template may read. */
export interface Message {
  /** Usually `system`, `user` or `assistant`; which ones there are is the template's matter. */
  readonly role: string
  readonly content: string
}

/** What a template may read beside the messages. */
export interface Given {
  /** The tools that the model may call, usually as JSON schemas. */
  readonly tools?: ReadonlyArray<object> | undefined
  /** Variables such as `enable_thinking`; they go before the model's tokens such as `bos_token`. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined
}

/** A model's chat template. */
export interface ChatTemplate {
  /**
   * A conversation as text. With `addGenerationPrompt` the text ends where the assistant's answer starts. Fails when
   * the template raises an exception, as many do for roles that do not alternate, and for tools when it has none.
   */
  readonly render: (
    messages: ReadonlyArray<Message>,
    options?: Given & { readonly addGenerationPrompt?: boolean }
  ) => Effect.Effect<string, ChatTemplateError>
  /** Whether it may write today's date: tomorrow the same conversation is another text. */
  readonly dated: boolean
}

const noTools = "has a chat template that knows no tools; leave `tools` out, or take a model that calls some"

/** A conversation takes a template some milliseconds; one that loops without end is stopped after this many. */
const patience = 2000

/** A message as transformers gives it: without what is null, and with its thoughts under both of their usual names. */
const given = (message: Message): object => {
  const fields = Object.fromEntries(Object.entries(message).filter(([, value]) => value !== null))
  const thoughts = fields["reasoning_content"] ?? fields["thinking"] ?? fields["reasoning"]
  return thoughts === undefined ? fields : { thinking: thoughts, ...fields, reasoning_content: thoughts }
}

/** Whether a template tells a message that calls tools by a content that is none, as those of DeepSeek do. */
const asksForNone = (source: string): boolean => /\bcontent['"\])]*\s+is\s+none\b/.test(source)

/** A message for such a template, which would write an empty answer, and no calls, of one whose text is empty. */
const withoutText = (message: Message): object => {
  const { tool_calls: calls } = message as { readonly tool_calls?: unknown }
  const called = Array.isArray(calls) && calls.length > 0
  return called && message.content === "" ? { ...given(message), content: null } : given(message)
}

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
      render: (messages, { addGenerationPrompt = false, tools = [], variables } = {}) => {
        // They would be left out without a word.
        if (tools.length > 0 && !/\btools\b/.test(source))
          return Effect.fail(new ChatTemplateError({ file, reason: noTools }))
        return Effect.try({
          try: () =>
            Bounded.within(patience, () =>
              template.render({
                ...tokens,
                // Templates ask whether these are none, which what is missing is not.
                documents: null,
                ...variables,
                ...TemplatePython.variables,
                messages: messages.map(asksForNone(source) ? withoutText : given),
                tools: tools.length === 0 ? null : tools,
                add_generation_prompt: addGenerationPrompt
              })
            ),
          catch: (cause) =>
            new ChatTemplateError({
              file,
              reason: `has a chat template that refuses the conversation: ${reasonOf(cause)}; give it the roles it expects`
            })
        })
      }
    })
  )

/** Where a model folder has its template, and another one for tools, if it has one. */
export const files = { usual: "chat_template.jinja", forTools: "additional_chat_templates/tool_use.jinja" } as const

/**
 * Loads the chat template of a model folder, if it has one: the {@link files}, or the `chat_template` of
 * `tokenizer_config.json`, of several the one named `default`, and for tools that named `tool_use`. Fails when it is
 * there and not understood.
 */
export const load = Effect.fn("ChatTemplate.load")(function* (
  dir: string
): Effect.fn.Return<Option.Option<ChatTemplate>, ChatTemplateError> {
  const config = yield* asTemplateError(TokenizerConfig.read(dir))
  const file = path.join(dir, files.usual)
  const own = yield* asTemplateError(ModelFile.readText(file))
  if (own !== undefined) {
    const usual = yield* make(own, file, config.tokens)
    const toolsFile = path.join(dir, files.forTools)
    const forTools = yield* asTemplateError(ModelFile.readText(toolsFile))
    return Option.some(forTools === undefined ? usual : yield* both(usual, forTools, toolsFile, config.tokens))
  }

  const configFile = path.join(dir, "tokenizer_config.json")
  const found = config.chatTemplate
  if (found === undefined) return Option.none()
  if (typeof found === "string") return Option.some(yield* make(found, configFile, config.tokens))
  const [named, forTools] = ["default", "tool_use"].map((name) => found.find((entry) => entry.name === name))
  if (named === undefined) {
    return yield* new ChatTemplateError({
      file: configFile,
      reason: `has the chat templates ${quoted(found.map((entry) => entry.name).join(", "))}; name one of them default`
    })
  }
  const usual = yield* make(named.template, configFile, config.tokens)
  return Option.some(forTools === undefined ? usual : yield* both(usual, forTools.template, configFile, config.tokens))
})

/** A template, and another one where there are tools. */
const both = Effect.fnUntraced(function* (
  usual: ChatTemplate,
  forTools: string,
  file: string,
  tokens: Readonly<Record<string, string>>
): Effect.fn.Return<ChatTemplate> {
  // One that is not understood is no matter where there are no tools.
  const other = yield* Effect.result(make(forTools, file, tokens))
  return {
    dated: usual.dated || forTools.includes("strftime_now"),
    render: (messages, options) =>
      (options?.tools ?? []).length === 0
        ? usual.render(messages, options)
        : Effect.flatMap(Effect.fromResult(other), ({ render }) => render(messages, options))
  }
})

const asTemplateError = Effect.mapError(
  ({ file, reason }: ModelFile.CheckpointError) => new ChatTemplateError({ file, reason })
)
