/**
 * Continuation: a tokenizer for text that goes on after another.
 *
 * Tokenizers of the SentencePiece kind put a space in front of a text, and so do some of bytes, which is wrong in the
 * middle of one: there " (A)" would have two, and "\n" one.
 */
import { Predicate } from "effect"

/** A part of a `tokenizer.json`, or a `Sequence` of parts under `key`, with each part changed; null is none. */
const changed = (json: unknown, key: string, change: (part: object, type: unknown) => unknown): unknown => {
  if (!Predicate.isObject(json)) return json
  const { type, [key]: parts } = json as Readonly<Record<string, unknown>>
  if (type !== "Sequence" || !Array.isArray(parts)) return change(json, type)
  return { ...json, [key]: parts.map((part) => changed(part, key, change)).filter((part) => part !== null) }
}

/** The same `tokenizer.json` without the space in front of a text; undefined where it puts none there. */
export const of = (json: object): object | undefined => {
  let found = false
  const note = <A>(part: A): A => {
    found = true
    return part
  }
  const { normalizer, pre_tokenizer } = json as Readonly<Record<string, unknown>>
  const without = {
    ...json,
    normalizer: changed(normalizer, "normalizers", (part, type) => (type === "Prepend" ? note(null) : part)),
    pre_tokenizer: changed(pre_tokenizer, "pretokenizers", (part, type) => {
      if (type === "Metaspace") return note({ ...part, prepend_scheme: "never" })
      const spaces =
        type === "ByteLevel" && Predicate.hasProperty(part, "add_prefix_space") && part.add_prefix_space === true
      return spaces ? note({ ...part, add_prefix_space: false }) : part
    })
  }
  return found ? without : undefined
}
