/**
 * EndToken: the one token that ends what a model of a folder says.
 *
 * A model may stop at several tokens: Llama 3's instruct models list the end of a text, of a message and of a turn.
 * What is learnt and judged has to end with the one that the model itself writes, so the chat template is asked what it
 * puts after an answer. A model without one ends as its tokenizer does. Scoring, learning and rewards all go by this.
 */
import { Effect, Option } from "effect"
import type { ChatTemplate } from "../../model/ChatTemplate.ts"
import type { Checkpoint } from "../../model/Checkpoint.ts"
import type { Tokenizer } from "../../model/Tokenizer.ts"

/** An answer that stands nowhere in a template. */
const answer = "qzAnswerzq"

/** The token, or nothing for a model that has no end token. */
export const of = Effect.fnUntraced(function* (
  { eosTokenIds }: Checkpoint,
  tokenizer: Tokenizer,
  template: Option.Option<ChatTemplate>
) {
  const isEnd = (id: number | undefined) => id !== undefined && eosTokenIds.includes(id)
  const plain = isEnd(tokenizer.eos) ? [tokenizer.eos!] : eosTokenIds.slice(0, 1)
  if (eosTokenIds.length < 2 || Option.isNone(template)) return plain
  const turns = [
    { role: "user", content: "Hello" },
    { role: "assistant", content: answer }
  ]
  // A template that refuses these two will say so of the conversations that it is asked for.
  const text = yield* Effect.orElseSucceed(template.value.render(turns), () => "")
  const at = text.lastIndexOf(answer)
  const after = at < 0 ? [] : tokenizer.encode(text.slice(at + answer.length))
  const end = after.find(isEnd)
  return end === undefined ? plain : [end]
})
