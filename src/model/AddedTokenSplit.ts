/**
 * AddedTokenSplit: a text cut at the added tokens in it, as in Rust.
 *
 * Tokens that are not to be normalised are looked for in the text, and the others in what is between them, normalised.
 * The JavaScript library does so, too, but a token that takes the white space behind it takes it from a token, takes
 * other white space than Unicode's, and a space goes in front of what follows a token, as if it were the text's beginning.
 */
import { isSpace } from "./Normalizers.ts"

/** What is used of the library's added tokens. */
interface AddedToken {
  readonly content: string
  readonly lstrip: boolean
  readonly rstrip: boolean
  readonly normalized: boolean
}

/** What is used of the library's tokenizer. */
export interface Tokenizer {
  readonly added_tokens: ReadonlyArray<AddedToken>
  readonly normalizer: { normalize: (text: string) => string }
  readonly pre_tokenizer: { pre_tokenize: (text: string, place: { section_index: number }) => Array<string> } | null
  readonly model: { _call: (words: Array<string>) => Array<string> }
  readonly splitter_unnormalized: { split: (text: string) => ReadonlyArray<string> }
  readonly splitter_normalized: { split: (text: string) => ReadonlyArray<string> }
  encode_text: (text: string | null) => Array<string> | null
}

/** A piece of a text, or a token in it. */
interface Piece {
  readonly text: string
  readonly token: AddedToken | undefined
  /** Whether it begins the text. */
  readonly first: boolean
}

/** The pieces of a text, given as what it is split into, each of which is a token or lies between two. */
const pieces = (parts: ReadonlyArray<string>, tokens: ReadonlyMap<string, AddedToken>): ReadonlyArray<Piece> => {
  const text = parts.join("")
  const found: Array<Piece> = []
  let taken = 0
  let at = 0
  const until = (end: number) => {
    if (taken < end) found.push({ text: text.slice(taken, end), token: undefined, first: taken === 0 })
  }
  for (const part of parts) {
    let [start, end] = [at, (at += part.length)]
    const token = tokens.get(part)
    if (token === undefined) continue
    while (token.lstrip && start > taken && isSpace(text[start - 1])) start--
    if (token.lstrip) start = Math.max(start, taken)
    while (token.rstrip && isSpace(text[end])) end++
    // All of it may be white space that another token has taken.
    if (start === end) continue
    until(start)
    found.push({ text: part, token, first: start === 0 })
    taken = end
  }
  until(text.length)
  return found
}

/** Has the library's tokenizer cut a text so. */
export const install = (made: Tokenizer): void => {
  const { added_tokens: added, model, normalizer, pre_tokenizer, splitter_normalized, splitter_unnormalized } = made
  const normalized = (text: string) => normalizer.normalize(text)
  const early = new Map(added.filter((token) => !token.normalized).map((token) => [token.content, token]))
  const late = new Map(added.filter((token) => token.normalized).map((token) => [normalized(token.content), token]))
  made.encode_text = (text) =>
    text === null
      ? null
      : pieces(splitter_unnormalized.split(text), early).flatMap((section) =>
          section.token !== undefined
            ? [section.token.content]
            : pieces(splitter_normalized.split(normalized(section.text)), late).flatMap((piece) => {
                if (piece.token !== undefined) return [piece.token.content]
                const place = { section_index: section.first && piece.first ? 0 : 1 }
                return model._call(pre_tokenizer?.pre_tokenize(piece.text, place) ?? [piece.text])
              })
        )
}
