/**
 * LeastTokens: how many tokens a text has at least, without making them.
 *
 * To encode tens of megabytes takes minutes and gigabytes, only to be told that they are more than a model reads. But no
 * token stands for more bytes than the longest does, and most tokenizers leave no byte of a text out.
 */
import { Predicate } from "effect"
import { byteToken } from "./UnknownPieces.ts"

type Json = Readonly<Record<string, unknown>>

/** The parts of a normalizer or pre-tokenizer: those of a `Sequence`, itself or none. */
const partsOf = (json: unknown, key: string): ReadonlyArray<Json> => {
  if (!Predicate.isObject(json)) return []
  const { type, [key]: parts } = json as Json
  return type === "Sequence" && Array.isArray(parts) ? parts.flatMap((part) => partsOf(part, key)) : [json as Json]
}

/** By how many times a normalizer may make a text smaller: undefined where nobody knows. */
const shrinking = (part: Json): number | undefined => {
  switch (part["type"]) {
    case "Prepend":
      return 1
    case "Replace": {
      const { content, pattern } = part
      const from = Predicate.hasProperty(pattern, "String") ? pattern.String : undefined
      const grows =
        typeof from === "string" && typeof content === "string" && Buffer.byteLength(content) >= Buffer.byteLength(from)
      return grows ? 1 : undefined
    }
    case "NFC":
      // No character is composed of more than four times its bytes (https://unicode.org/faq/normalization.html).
      return 4
    default:
      return undefined
  }
}

/** Whether a pre-tokenizer only cuts. */
const keepsAll = ({ behavior, type }: Json): boolean => {
  switch (type) {
    case "ByteLevel":
    case "Digits":
    case "Metaspace":
      return true
    case "Split":
    case "Punctuation":
      return behavior !== "Removed"
    default:
      return false
  }
}

/** The character that stands for a byte in a vocabulary of bytes (see `byteLevelPattern` in `PreTokenizer.ts`). */
const characters: ReadonlyArray<string> = (() => {
  let others = 256
  return Array.from({ length: 256 }, (_, byte) => {
    const isItself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173)
    return String.fromCharCode(isItself ? byte : others++)
  })
})()

/** A lower bound by a parsed `tokenizer.json`; 0 of each text where its tokenizer may leave out what it likes. */
export const of = (json: unknown): ((text: string) => number) => {
  const unknown = () => 0
  if (!Predicate.isObject(json)) return unknown
  const { added_tokens, model, normalizer, pre_tokenizer } = json as Json
  const { byte_fallback, type, vocab } = (Predicate.isObject(model) ? model : {}) as Json
  if (type !== "BPE" || !Predicate.isObject(vocab)) return unknown

  const cuts = partsOf(pre_tokenizer, "pretokenizers")
  if (!cuts.every(keepsAll)) return unknown
  const added: ReadonlyArray<Json> = Array.isArray(added_tokens) ? added_tokens : []
  // Such a one takes all white space around it.
  if (added.some(({ lstrip, rstrip }) => lstrip === true || rstrip === true)) return unknown

  const isBytes = cuts.some(({ type }) => type === "ByteLevel")
  // A byte without a token is left out.
  const counted = Array.from({ length: 256 }, (_, byte) =>
    isBytes ? Object.hasOwn(vocab, characters[byte]!) : byte_fallback === true && Object.hasOwn(vocab, byteToken(byte))
  )
  const areAll = counted.every((is) => is)
  if (!isBytes && !areAll) return unknown

  let factor = 1
  for (const part of partsOf(normalizer, "normalizers")) {
    const shrinks = shrinking(part)
    // What a byte becomes may be one without a token.
    if (shrinks === undefined || !areAll) return unknown
    factor *= shrinks
  }
  let longest = 1
  for (const token of Object.keys(vocab)) longest = Math.max(longest, isBytes ? token.length : Buffer.byteLength(token))
  for (const { content } of added) longest = Math.max(longest, Buffer.byteLength(String(content)))
  return (text) => {
    let count = 0
    for (const byte of Buffer.from(text)) if (counted[byte] === true) count++
    return Math.ceil(count / (factor * longest))
  }
}
