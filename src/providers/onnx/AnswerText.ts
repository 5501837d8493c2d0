/**
 * AnswerText: the text of sampled tokens, as whoever asked for them reads it.
 */
import type { Tokenizer } from "../../model/Tokenizer.ts"

/**
 * The text up to the first of the stop texts, without special tokens and without the end tokens that it closes with.
 *
 * A stop text may have a special token in it, and decoding has stopped where the whole text has it: so it is looked for
 * there, and special tokens are left out of what is before it.
 */
export const of = (
  { decode, specialIds }: Tokenizer,
  tokenIds: ReadonlyArray<number>,
  stop: ReadonlyArray<string>,
  endIds: ReadonlyArray<number>
): string => {
  const shown = (ids: ReadonlyArray<number>) => decode(ids, { skipSpecialTokens: true })
  const whole = decode(tokenIds)
  const found = stop.map((text) => whole.indexOf(text)).filter((at) => at >= 0)
  if (found.length === 0) return shown(tokenIds.slice(0, tokenIds.findLastIndex((id) => !endIds.includes(id)) + 1))
  const end = Math.min(...found)
  // Tokens before the stop text, and what of the next ones is before it: it may begin within a token.
  let count = tokenIds.length
  let before = whole
  while (before.length > end || !whole.startsWith(before)) before = decode(tokenIds.slice(0, --count))
  const rest = specialIds.has(tokenIds[count]!) ? "" : whole.slice(before.length, end)
  return shown(tokenIds.slice(0, count)) + rest
}
