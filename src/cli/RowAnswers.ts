/**
 * RowAnswers: what is asked in a row and what is answered, texts or messages, as tokens.
 *
 * An answer is encoded as its text. One that says more, in thoughts before it or in calls of tools, is what the chat
 * template writes after the prompt, or no answer at all: a model that learnt the text alone would never think.
 */
import { Effect, Option } from "effect"
import * as Messages from "../data/Messages.ts"
import * as Trl from "../data/Trl.ts"
import type { Message } from "../Policy.ts"
import type { TextCodec } from "../providers/onnx/TextCodec.ts"

type Reading<A> = Effect.Effect<A, string>

/** The tokens of a prompt and of each answer to it. */
export interface Tokens {
  readonly prompt: ReadonlyArray<number>
  readonly answers: ReadonlyArray<ReadonlyArray<number>>
}

const givenOf = ({ chat_template_kwargs, tools }: Trl.Asked) => ({ tools, variables: chat_template_kwargs })

/** The tokens of what is asked. */
export const prompt = (codec: TextCodec, asked: Trl.Asked): Reading<ReadonlyArray<number>> =>
  Effect.mapError(
    codec.context("row", typeof asked.prompt === "string" ? asked.prompt : { messages: asked.prompt }, givenOf(asked)),
    (error) => error.message
  )

const written = (codec: TextCodec, asked: Trl.Asked, answer: Message) =>
  Effect.mapError(
    codec.written("row", [...(asked.prompt as ReadonlyArray<Message>), answer], givenOf(asked)),
    (error) => error.message
  )

/** An answer as the template writes it; fails where the template leaves out a part of it. */
const wholly = Effect.fnUntraced(function* (codec: TextCodec, asked: Trl.Asked, answer: Message) {
  const found = yield* written(codec, asked, answer)
  for (const field of Messages.more(answer)) {
    const less = yield* Effect.option(written(codec, asked, Messages.without(answer, field)))
    if (Option.exists(less, (other) => String(other.answer) === String(found.answer))) {
      return yield* Effect.fail(`the model's chat template writes nothing of the answer's \`${field}\`; leave it out`)
    }
  }
  return found
})

/** The first field in which an answer says more than its text. */
export const more = (answer: Trl.Answer): string | undefined =>
  typeof answer === "string" ? undefined : Messages.more(answer)[0]

/** Whether there is nothing in an answer to learn. */
export const isBlank = (answer: Trl.Answer): boolean => Trl.textOf(answer).trim() === "" && more(answer) === undefined

/**
 * The tokens of a row. Answers are encoded by `encode`, but where one says more than its text, all of them are as the
 * template writes them: those that are compared differ in what they say, and not in how they were put together.
 */
export const tokens = Effect.fnUntraced(function* (
  codec: TextCodec,
  asked: Trl.Asked,
  answers: ReadonlyArray<Trl.Answer>,
  encode: (text: string) => ReadonlyArray<number>
): Effect.fn.Return<Tokens, string> {
  if (answers.every((answer) => more(answer) === undefined)) {
    const tooLong = answers.map((answer) => codec.tooLong(Trl.textOf(answer))).find((reason) => reason !== undefined)
    if (tooLong !== undefined) return yield* Effect.fail(`the completion is too long: ${tooLong}`)
    return { prompt: yield* prompt(codec, asked), answers: answers.map((answer) => encode(Trl.textOf(answer))) }
  }
  // Where one of them is a message, all are.
  const all = yield* Effect.forEach(answers as ReadonlyArray<Message>, (answer) => wholly(codec, asked, answer))
  return { prompt: all[0]!.prompt, answers: all.map(({ answer }) => answer) }
})
