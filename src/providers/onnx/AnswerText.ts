/**
 * AnswerText: the text of sampled tokens, as whoever asked for them reads it.
 */
import type { Tokenizer } from "../../model/Tokenizer.ts"

/** What reads tokens. */
type Reader = Pick<Tokenizer, "decode" | "specialIds">

/** A text that goes on after a prompt. */
export interface Continuation {
  readonly text: string
  /** The tokens up to the one that a stop text ends in, which are all where there is none. */
  readonly count: number
  /** Whether a stop text ended it. */
  readonly stopped: boolean
}

/** Where the first of the stop texts is in a text; undefined where there is none. */
const find = (text: string, stop: ReadonlyArray<string>): number | undefined => {
  const found = stop.map((one) => text.indexOf(one)).filter((at) => at >= 0)
  return found.length === 0 ? undefined : Math.min(...found)
}

/** The text without special tokens up to a place in the whole one. */
const shownUntil = ({ decode, specialIds }: Reader, tokenIds: ReadonlyArray<number>, whole: string, end: number) => {
  if (end === 0) return ""
  // Tokens before the place, and what of the next ones is before it: it may be within a token.
  let count = tokenIds.length
  let before = whole
  while (before.length > end || !whole.startsWith(before)) before = decode(tokenIds.slice(0, --count))
  const rest = specialIds.has(tokenIds[count]!) ? "" : whole.slice(before.length, end)
  return decode(tokenIds.slice(0, count), { skipSpecialTokens: true }) + rest
}

/**
 * The text up to the first of the stop texts, without special tokens and without the end tokens that it closes with.
 *
 * A stop text may have a special token in it, and special tokens may stand in the middle of one: so it is looked for
 * with them and without them, as decoding has done.
 */
export const of = (
  reader: Reader,
  tokenIds: ReadonlyArray<number>,
  stop: ReadonlyArray<string>,
  endIds: ReadonlyArray<number>
): string => {
  const own = tokenIds.slice(0, tokenIds.findLastIndex((id) => !endIds.includes(id)) + 1)
  const shown = reader.decode(own, { skipSpecialTokens: true })
  const whole = reader.decode(tokenIds)
  const end = find(whole, stop)
  const until = end === undefined ? shown : shownUntil(reader, tokenIds, whole, end)
  return until.slice(0, find(shown, stop))
}

/** Tokens of a prompt that are enough to see how a text goes on after it. */
const fewTokens = 4

/**
 * Reads tokens as they go on after those of a prompt. Tokenizers of the SentencePiece kind put a space in front of a
 * text, and so take one away from the text of tokens that are read alone.
 */
const after = ({ decode, specialIds, start }: Tokenizer, promptIds: ReadonlyArray<number>): Reader => {
  // The first tokens are no part of the text: what follows them alone begins one.
  const last = promptIds.slice(start.length).slice(-fewTokens)
  const before = decode(last)
  return {
    specialIds,
    decode: (ids, options) => {
      const read = options?.skipSpecialTokens === true ? ids.filter((id) => !specialIds.has(id)) : ids
      const text = decode([...last, ...read])
      // Bytes may make another character of those at the prompt's end.
      return text.startsWith(before) ? text.slice(before.length) : decode(read)
    }
  }
}

/** The same as the answer, of tokens that go on after a prompt's: with the space that they may begin with. */
export const continuation = (
  tokenizer: Tokenizer,
  promptIds: ReadonlyArray<number>,
  tokenIds: ReadonlyArray<number>,
  stop: ReadonlyArray<string>,
  endIds: ReadonlyArray<number>
): Continuation => {
  const reader = after(tokenizer, promptIds)
  const text = of(reader, tokenIds, stop, endIds)
  const hasStop = (ids: ReadonlyArray<number>) =>
    find(reader.decode(ids), stop) !== undefined ||
    find(reader.decode(ids, { skipSpecialTokens: true }), stop) !== undefined
  if (!hasStop(tokenIds)) return { text, count: tokenIds.length, stopped: false }
  // Decoding reads sampled tokens alone: it goes on behind a stop text that begins with their first space.
  const isFirst = (_: number, index: number) => hasStop(tokenIds.slice(0, index + 1))
  return { text, count: text === "" ? tokenIds.findIndex(isFirst) + 1 : tokenIds.length, stopped: true }
}
