/**
 * TokenizerVocabulary: the tokens of a `tokenizer.json`, checked before a tokenizer is made of them.
 *
 * The library trusts the file: an id of two thousand million makes it walk through as many places, and one that is no
 * number comes out again as a token of every text.
 */
import { Predicate, Result } from "effect"
import { quotedJson } from "./Quoted.ts"

/** The ids of a tokenizer's tokens. */
export interface TokenizerVocabulary {
  /** The largest id of the model's own tokens, -1 without any. */
  readonly largest: number
  /** The largest id of all, added tokens included. */
  readonly largestAdded: number
}

/** Far more tokens than any tokenizer has. */
const most = 10_000_000

const isId = (id: unknown): id is number => Number.isSafeInteger(id) && (id as number) >= 0 && (id as number) < most

const isPiece = (entry: unknown): boolean =>
  Array.isArray(entry) && entry.length === 2 && typeof entry[0] === "string" && Number.isFinite(entry[1])

const isMerge = (merge: unknown): boolean =>
  typeof merge === "string" || (Array.isArray(merge) && merge.length === 2 && merge.every(Predicate.isString))

/** Reads the tokens of a parsed `tokenizer.json`; a failure is the end of a sentence that starts with the file's name. */
export const fromJson = (json: unknown): Result.Result<TokenizerVocabulary, string> => {
  const { added_tokens: added = [], model } = (Predicate.isObject(json) ? json : {}) as Readonly<
    Record<string, unknown>
  >
  const {
    continuing_subword_prefix,
    merges = [],
    type,
    vocab
  } = (Predicate.isObject(model) ? model : {}) as Readonly<Record<string, unknown>>
  let largest = -1
  if (Array.isArray(vocab)) {
    const wrong = vocab.find((entry) => !isPiece(entry))
    if (wrong !== undefined) return Result.fail(`has ${quotedJson(wrong)} in its vocabulary, which is no token`)
    largest = vocab.length - 1
  } else if (Predicate.isObject(vocab)) {
    for (const [token, id] of Object.entries(vocab)) {
      if (!isId(id)) return Result.fail(`gives ${quotedJson(token)} the id ${quotedJson(id)}, which is no token id`)
      largest = Math.max(largest, id)
    }
  } else {
    return Result.fail("has no vocabulary")
  }
  if (!Array.isArray(merges) || !merges.every(isMerge)) return Result.fail("has merges that are no pairs of tokens")
  // The library would merge as if there were none.
  if (type === "BPE" && typeof continuing_subword_prefix === "string" && continuing_subword_prefix !== "") {
    return Result.fail(
      `merges tokens with the continuing_subword_prefix ${quotedJson(continuing_subword_prefix)}, which Charter does not know`
    )
  }
  if (!Array.isArray(added)) return Result.fail("has added_tokens that are no list")
  let largestAdded = largest
  for (const token of added) {
    const { content, id, single_word } = (Predicate.isObject(token) ? token : {}) as Readonly<Record<string, unknown>>
    if (!isId(id) || typeof content !== "string" || content === "") {
      return Result.fail(`has the added token ${quotedJson(token)}, which lacks an id or a text`)
    }
    // The library would find it within words, too.
    if (single_word === true) {
      return Result.fail(`has the added token ${quotedJson(content)} with single_word, which Charter does not know`)
    }
    largestAdded = Math.max(largestAdded, id)
  }
  return Result.succeed({ largest, largestAdded })
}
