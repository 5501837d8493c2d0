/**
 * TokenRows: the rows of a user's file as the tokens of the model at hand.
 *
 * A completion's tokens are its own: they are encoded apart from the prompt's, as a decoder that continues the prompt
 * would add them, and as learning sees them.
 */
import { Effect } from "effect"
import { existsSync } from "node:fs"
import { join } from "node:path"
import type { Input } from "../data/ModelRows.ts"
import * as Trl from "../data/Trl.ts"
import type { Checkpoint } from "../model/Checkpoint.ts"
import * as TextCodec from "../providers/onnx/TextCodec.ts"
import * as RowAnswers from "./RowAnswers.ts"

/** A row's tokens; what is asked about are those from `from` on, which have at least one before them. */
export interface TokenRow {
  readonly ids: ReadonlyArray<number>
  readonly from: number
}

/** Makes tokens of rows; a failure is the reason why a row cannot be used. */
export interface TokenRows {
  /** Between texts and tokens, where the folder has a tokenizer. */
  readonly codec: TextCodec.TextCodec | undefined
  /** The tokens to continue. */
  readonly prompt: (input: Input) => Effect.Effect<ReadonlyArray<number>, string>
  /**
   * The tokens to judge or to learn. The model's end token follows what is a whole turn; with `ended` it follows every
   * text and completion, as it does in learning.
   */
  readonly whole: (input: Input, options: { readonly ended: boolean }) => Effect.Effect<TokenRow, string>
}

/** The tokens of a folder's rows. A folder without a tokenizer takes rows of token ids alone. */
export const make = Effect.fnUntraced(function* (checkpoint: Checkpoint) {
  const codec = existsSync(join(checkpoint.dir, "tokenizer.json")) ? yield* TextCodec.load(checkpoint) : undefined
  const check = (row: TokenRow, more: number): Effect.Effect<TokenRow, string> => {
    const reason = problem(row.ids, checkpoint.config, more)
    return reason === undefined ? Effect.succeed(row) : Effect.fail(reason)
  }
  const noTokenizer = Effect.fail(`the model's folder has no tokenizer.json to read text with; give input_ids`)
  const context = (asked: Trl.Asked) => (codec === undefined ? noTokenizer : RowAnswers.prompt(codec, asked))

  const rows: TokenRows = {
    codec,
    prompt: Effect.fnUntraced(function* (input) {
      if (input._tag === "completion") return yield* Effect.fail("it has a completion already")
      const ids =
        input._tag === "ids" ? input.ids : yield* context(input._tag === "text" ? { prompt: input.text } : input)
      return (yield* check({ ids, from: ids.length }, 1)).ids
    }),
    whole: Effect.fnUntraced(function* (input, { ended }) {
      if (input._tag === "ids") return yield* check({ ids: input.ids, from: 1 }, 0)
      if (codec === undefined) return yield* noTokenizer
      if (input._tag !== "completion") {
        const ids = yield* context(input._tag === "text" ? { prompt: input.text } : input)
        const end = codec.completion("")
        // A text may have been written with its end.
        return yield* check({ ids: ended && ids.at(-1) !== end[0] ? [...ids, ...end] : ids, from: 1 }, 0)
      }
      const { answer, ...asked } = input
      if (Trl.textOf(answer) === "" && RowAnswers.isBlank(answer)) return yield* Effect.fail("the completion is empty")
      const encode = ended || typeof answer !== "string" ? codec.completion : codec.encode
      const { answers, prompt } = yield* RowAnswers.tokens(codec, asked, [answer], encode)
      // A prompt may have no tokens; then the completion's first has nothing before it that it could follow from.
      return yield* check({ ids: [...prompt, ...answers[0]!], from: Math.max(1, prompt.length) }, 0)
    })
  }
  return rows
})

/** Why a network cannot read the tokens, with `more` to come. */
export const problem = (
  ids: ReadonlyArray<number>,
  { maxPositions, vocabSize }: { readonly maxPositions: number; readonly vocabSize: number },
  more = 0
): string | undefined => {
  if (ids.length === 0) return "it has no tokens"
  if (ids.length + more > maxPositions) {
    const all = more > 0 ? `${ids.length} tokens and ${more} to come` : `${ids.length} tokens`
    return `${all} are more than the ${maxPositions} positions of the model`
  }
  const strange = ids.find((id) => id < 0 || id >= vocabSize)
  return strange === undefined ? undefined : `the token ${strange} is not in the model's vocabulary of ${vocabSize}`
}
