/**
 * Unknown pieces: the ids of what a text is cut into that the vocabulary does not have.
 *
 * A unigram model may write such a piece in tokens for its bytes, and a model of whole words has a token for all of
 * them; the JavaScript library knows neither. It also takes unknown pieces of several words for one, and merges as if
 * what is left out stood between its neighbours.
 */
import { Predicate } from "effect"

/** What is used of the library's encoding: the pieces and their ids, which lie side by side. */
export interface Encoding {
  readonly ids: ReadonlyArray<number | undefined>
  readonly tokens: ReadonlyArray<string | undefined>
}

/** What is used of the library's model. */
export interface Model {
  readonly fuse_unk: boolean
  _call: (words: Array<string>) => Array<string>
  /** Merges the characters of a word, where the model does so. */
  bpe?: (word: string) => Array<string>
}

/** Unknown pieces side by side are one within a word alone. */
export const fuseWithinWords = (model: Model): void => {
  if (!model.fuse_unk) return
  const encode = model._call.bind(model)
  model._call = (words) => words.flatMap((word) => encode([word]))
}

const encoder = new TextEncoder()

/** The token that stands for a byte where a vocabulary has such. */
export const byteToken = (byte: number): string => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`

/**
 * Characters that no token stands for are left out before the others are merged, as in Rust: those on both sides of one
 * are neighbours. Vocabularies of bytes often lack some, such as those of control characters.
 */
export const leaveOutBeforeMerging = (model: Model, json: unknown): void => {
  const { byte_fallback, end_of_word_suffix, unk_token, vocab } = (
    Predicate.hasProperty(json, "model") && Predicate.isObject(json.model) ? json.model : {}
  ) as Readonly<Record<string, unknown>>
  // The last character of a word is another one with a suffix.
  if (model.bpe === undefined || !Predicate.isObject(vocab) || Predicate.isString(unk_token) || end_of_word_suffix)
    return
  const has = (token: string) => Object.hasOwn(vocab, token)
  const isKept = (character: string) =>
    has(character) || (byte_fallback === true && Array.from(encoder.encode(character), byteToken).every(has))
  const merge = model.bpe.bind(model)
  model.bpe = (word) => merge(Array.from(word).filter(isKept).join(""))
}

/** The ids of an encoding by the `model` of a `tokenizer.json`; a piece that it has no token for at all is dropped. */
export const resolve = (
  model: unknown,
  idOf: (token: string) => number | undefined
): ((encoding: Encoding) => Array<number>) => {
  const { byte_fallback, unk_id, unk_token } = (Predicate.isObject(model) ? model : {}) as Readonly<
    Record<string, unknown>
  >
  const unknown =
    typeof unk_token === "string" ? idOf(unk_token) : typeof unk_id === "number" && unk_id >= 0 ? unk_id : undefined
  const bytesOf = (piece: string): ReadonlyArray<number> | undefined => {
    const ids = Array.from(encoder.encode(piece), (byte) => idOf(byteToken(byte)))
    return ids.every((id) => id !== undefined) ? ids : undefined
  }
  return ({ ids, tokens }) =>
    ids.flatMap((id, i) => {
      if (id !== undefined && id !== unknown) return [id]
      const piece = tokens[i]
      // The token for what is unknown may be written in the text itself.
      const bytes =
        byte_fallback === true && piece !== undefined && idOf(piece) === undefined ? bytesOf(piece) : undefined
      return bytes ?? (unknown === undefined ? [] : [unknown])
    })
}
