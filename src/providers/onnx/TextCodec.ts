/**
 * TextCodec: between what a stage asks for in text and what the engine does in tokens, for one checkpoint.
 */
import { Effect, Option } from "effect"
import * as Turn from "../../engine/Turn.ts"
import * as ChatTemplate from "../../model/ChatTemplate.ts"
import type { Checkpoint } from "../../model/Checkpoint.ts"
import * as Tokenizer from "../../model/Tokenizer.ts"
import { PolicyError } from "../../Policy.ts"
import type { Finish, ModelContext } from "../../Policy.ts"
import * as AnswerText from "./AnswerText.ts"
import * as EndToken from "./EndToken.ts"

export interface TextCodec {
  /** Whether conversations can be put through a template of the model's own. */
  readonly chat: boolean
  /** Whether that template may write today's date. */
  readonly dated: boolean
  /** The tokens of a context; those of a text begin with the model's first tokens where it asks for them. */
  readonly context: (id: string, context: ModelContext) => Effect.Effect<ReadonlyArray<number>, PolicyError>
  /** The tokens of a text in the middle of another. */
  readonly encode: (text: string) => ReadonlyArray<number>
  /**
   * An answer's tokens with the one that ends what the model says (see `EndToken.ts`); of "" the latter alone. One that
   * was cut off has no such token.
   */
  readonly completion: (text: string, finish?: Finish) => ReadonlyArray<number>
  /** The text of sampled tokens, without special ones, up to the first of the stop texts. */
  readonly answer: (tokenIds: ReadonlyArray<number>, stop: ReadonlyArray<string>) => string
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
  return {
    chat: Option.isSome(template),
    dated: Option.exists(template, ({ dated }) => dated),
    context: Effect.fnUntraced(function* (id, context) {
      // A recipe asks for hundreds at once: timers, signals and answers are to come in between.
      yield* Turn.pause
      if (typeof context === "string") return [...tokenizer.start, ...tokenizer.encode(context)]
      if (Option.isNone(template)) {
        const message = "The model has no chat template; use the human-assistant transcript with it."
        return yield* new PolicyError({ message, id, retryable: false })
      }
      if (context.messages.at(-1)?.role === "assistant") {
        const message =
          "The prompt ends with a message of the assistant, and an answer would be a second turn; leave it out, or make one message of both."
        return yield* new PolicyError({ message, id, retryable: false })
      }
      const text = yield* Effect.mapError(
        template.value.render(context.messages, { addGenerationPrompt: true }),
        (error) => new PolicyError({ message: error.message, id, retryable: false })
      )
      return tokenizer.encode(text + (context.prefix ?? ""))
    }),
    encode,
    completion: (text, finish) => {
      const ids = encode(text)
      if (finish === "length") return ids
      // A text may have been written with its end.
      return end.length > 0 && ids.at(-1) === end[0] ? ids : [...ids, ...end]
    },
    answer: (tokenIds, stop) => AnswerText.of(tokenizer, tokenIds, stop, checkpoint.eosTokenIds),
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
