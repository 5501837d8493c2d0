/**
 * TextCodec: between what a stage asks for in text and what the engine does in tokens, for one checkpoint.
 */
import { Effect, Option } from "effect"
import * as Turn from "../../engine/Turn.ts"
import * as ChatTemplate from "../../model/ChatTemplate.ts"
import type { Checkpoint } from "../../model/Checkpoint.ts"
import * as Tokenizer from "../../model/Tokenizer.ts"
import { PolicyError } from "../../Policy.ts"
import type { Finish, Message, ModelContext } from "../../Policy.ts"
import * as AnswerText from "./AnswerText.ts"
import * as EndToken from "./EndToken.ts"
import * as WrittenAnswer from "./WrittenAnswer.ts"

export interface TextCodec {
  /** Whether conversations can be put through a template of the model's own. */
  readonly chat: boolean
  /** Whether that template may write today's date. */
  readonly dated: boolean
  /** The tokens of a context; those of a text begin with the model's first tokens where it asks for them. */
  readonly context: (
    id: string,
    context: ModelContext,
    given?: ChatTemplate.Given
  ) => Effect.Effect<ReadonlyArray<number>, PolicyError>
  /** The tokens of a conversation, with the last message as the chat template writes it (see `WrittenAnswer.ts`). */
  readonly written: (
    id: string,
    messages: ReadonlyArray<Message>,
    given?: ChatTemplate.Given
  ) => Effect.Effect<WrittenAnswer.Written, PolicyError>
  /** Why a text has too many tokens for the model, where that is known before they are made. */
  readonly tooLong: (text: string) => string | undefined
  /** The tokens of a text in the middle of another. */
  readonly encode: (text: string) => ReadonlyArray<number>
  /**
   * An answer's tokens with the one that ends what the model says (see `EndToken.ts`); of "" the latter alone. One that
   * was cut off has no such token.
   */
  readonly completion: (text: string, finish?: Finish) => ReadonlyArray<number>
  /** The text of sampled tokens, without special ones, up to the first of the stop texts. */
  readonly answer: (tokenIds: ReadonlyArray<number>, stop: ReadonlyArray<string>) => string
  /** The same of tokens that go on after those of a text, with the space that they may begin with. */
  readonly continuation: (
    promptIds: ReadonlyArray<number>,
    tokenIds: ReadonlyArray<number>,
    stop: ReadonlyArray<string>
  ) => AnswerText.Continuation
  /** The tokens that end an answer, and the stop texts that are no single token; an empty one is refused. */
  readonly stops: (id: string, texts: ReadonlyArray<string>) => Effect.Effect<Stops, PolicyError>
}

/** What ends an answer. */
export interface Stops {
  readonly stopIds: ReadonlyArray<number>
  readonly stopTexts: ReadonlyArray<string>
}

/** The codec of a checkpoint's folder. */
export const load = Effect.fnUntraced(function* (
  checkpoint: Checkpoint
): Effect.fn.Return<TextCodec, Tokenizer.TokenizerError | ChatTemplate.ChatTemplateError> {
  const tokenizer = yield* Tokenizer.load(checkpoint.dir, checkpoint.config.vocabSize)
  const template = yield* ChatTemplate.load(checkpoint.dir)
  const end = yield* EndToken.of(checkpoint, tokenizer, template)
  // A text that begins with its own space gets none from the tokenizer. Another one may need it: a chat template of such
  // a model has a space before the answer, which the answer's text is given without.
  const encode = (text: string) => (/^\s/.test(text) ? tokenizer.encodeAfter(text) : tokenizer.encode(text))
  const { maxPositions } = checkpoint.config
  const tooLong = (text: string): string | undefined => {
    // A token has a character at least, so most texts need no look.
    const least = text.length > maxPositions ? tokenizer.least(text) : 0
    return least > maxPositions
      ? `at least ${least} tokens are more than the ${maxPositions} positions of the model`
      : undefined
  }
  const fits = (id: string, text: string): Effect.Effect<string, PolicyError> => {
    const reason = tooLong(text)
    if (reason === undefined) return Effect.succeed(text)
    return Effect.fail(new PolicyError({ message: `The text is too long: ${reason}.`, id, retryable: false }))
  }
  const rendered = Effect.fnUntraced(function* (id: string, ...given: Parameters<ChatTemplate.ChatTemplate["render"]>) {
    if (Option.isNone(template)) {
      const message = "The model has no chat template; use the human-assistant transcript with it."
      return yield* new PolicyError({ message, id, retryable: false })
    }
    return yield* Effect.mapError(
      template.value.render(...given),
      (error) => new PolicyError({ message: error.message, id, retryable: false })
    )
  })
  const promptText = Effect.fnUntraced(function* (
    id: string,
    messages: ReadonlyArray<Message>,
    given?: ChatTemplate.Given
  ) {
    if (Option.isSome(template) && messages.at(-1)?.role === "assistant") {
      const message =
        "The prompt ends with a message of the assistant, and an answer would be a second turn; leave it out, or make one message of both."
      return yield* new PolicyError({ message, id, retryable: false })
    }
    return yield* rendered(id, messages, { ...given, addGenerationPrompt: true })
  })
  return {
    chat: Option.isSome(template),
    dated: Option.exists(template, ({ dated }) => dated),
    context: Effect.fnUntraced(function* (id, context, given) {
      // A recipe asks for hundreds at once: timers, signals and answers are to come in between.
      yield* Turn.pause
      if (typeof context === "string") return [...tokenizer.start, ...tokenizer.encode(yield* fits(id, context))]
      const text = yield* promptText(id, context.messages, given)
      return tokenizer.encode(yield* fits(id, text + (context.prefix ?? "")))
    }),
    written: Effect.fnUntraced(function* (id, messages, given) {
      yield* Turn.pause
      const prompt = yield* promptText(id, messages.slice(0, -1), given)
      const whole = yield* fits(id, yield* rendered(id, messages, given))
      const found = WrittenAnswer.of(tokenizer, { prompt, whole }, checkpoint.eosTokenIds, end)
      if (found !== undefined) return found
      const message =
        "As the chat template writes it, the conversation does not begin with its prompt; leave out what the answer has beside its content, or change chat_template_kwargs."
      return yield* new PolicyError({ message, id, retryable: false })
    }),
    tooLong,
    encode,
    completion: (text, finish) => {
      const ids = encode(text)
      if (finish === "length") return ids
      // A text may have been written with its end.
      return end.length > 0 && ids.at(-1) === end[0] ? ids : [...ids, ...end]
    },
    answer: (tokenIds, stop) => AnswerText.of(tokenizer, tokenIds, stop, checkpoint.eosTokenIds),
    continuation: (promptIds, tokenIds, stop) =>
      AnswerText.continuation(tokenizer, promptIds, tokenIds, stop, checkpoint.eosTokenIds),
    stops: (id, texts) => {
      // Every text has an empty one at its beginning, so that nothing would be left of any answer.
      if (texts.includes("")) {
        const message = "A stop text is empty and would end every answer before it begins; leave it out."
        return Effect.fail(new PolicyError({ message, id, retryable: false }))
      }
      const idOf = (text: string) => {
        const id = tokenizer.idOf(text)
        return id !== undefined && tokenizer.specialIds.has(id) ? [id] : []
      }
      return Effect.succeed({
        stopIds: [...new Set([...checkpoint.eosTokenIds, ...texts.flatMap(idOf)])],
        stopTexts: texts.filter((text) => idOf(text).length === 0)
      })
    }
  }
})
