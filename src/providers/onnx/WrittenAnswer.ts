/**
 * WrittenAnswer: an answer as the chat template writes it, for one that is more than its text: it has thoughts before it,
 * or calls of tools.
 *
 * It is what the text of the whole conversation has after the text of its prompt, as in TRL, up to the token that ends it.
 */
import type { Tokenizer } from "../../model/Tokenizer.ts"

/** The tokens of a prompt and of the answer to it. */
export interface Written {
  readonly prompt: ReadonlyArray<number>
  readonly answer: ReadonlyArray<number>
}

/** Of the texts of the prompt and of the whole; undefined where the one is not the beginning of the other. */
export const of = (
  { decode, encode, encodeAfter }: Tokenizer,
  texts: { readonly prompt: string; readonly whole: string },
  eosTokenIds: ReadonlyArray<number>,
  /** What ends an answer after which the template writes no end token. */
  end: ReadonlyArray<number>
): Written | undefined => {
  if (!texts.whole.startsWith(texts.prompt)) return undefined
  const [prompt, whole] = [encode(texts.prompt), encode(texts.whole)]
  // A token may reach from the prompt into the answer. A decoder that continues the prompt has others there.
  const answer = prompt.every((id, t) => id === whole[t])
    ? whole.slice(prompt.length)
    : encodeAfter(texts.whole.slice(texts.prompt.length))
  // Templates put a line break behind the end, which no model gets to write.
  const last = answer.findLastIndex((id) => eosTokenIds.includes(id))
  const ended = last >= 0 && decode(answer.slice(last + 1)).trim() === ""
  return { prompt, answer: ended ? answer.slice(0, last + 1) : [...answer, ...end] }
}
