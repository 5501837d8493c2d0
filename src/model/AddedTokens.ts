/**
 * AddedTokens: the tokens that a model folder adds to its tokenizer's vocabulary.
 *
 * `tokenizer.json` lists them, and `tokenizer_config.json` may have more of them under `added_tokens_decoder`, by id: a
 * tokenizer to which tokens were added by hand has them there alone. As in transformers, all of them count.
 */
import { Predicate } from "effect"

/** A parsed `tokenizer.json` with the tokens of a parsed `tokenizer_config.json` that it lacks. Pure. */
export const complete = (json: unknown, config: Readonly<Record<string, unknown>>): unknown => {
  const decoder = config["added_tokens_decoder"]
  if (!Predicate.isObject(json) || !Predicate.isObject(decoder)) return json
  const listed: unknown = json["added_tokens"] ?? []
  if (!Array.isArray(listed)) return json
  const valuesOf = (field: string) =>
    new Set(listed.map((token: unknown) => (Predicate.isObject(token) ? token[field] : undefined)))
  const known = valuesOf("content")
  const lacking = Object.entries(decoder).flatMap(([id, token]) => {
    const content = Predicate.isObject(token) ? token["content"] : undefined
    return typeof content === "string" && !known.has(content) ? [{ id, content, token: token as object }] : []
  })
  // The whole vocabulary is gone through only for those few folders that have such tokens.
  if (lacking.length === 0) return json
  const vocab = Predicate.isObject(json["model"]) ? json["model"]["vocab"] : undefined
  const vocabulary = Predicate.isObject(vocab) ? vocab : {}
  const taken = new Set<unknown>([...Object.values(vocabulary), ...valuesOf("id")])
  const missing = lacking.flatMap(({ content, id, token }) => {
    // One that the vocabulary has keeps its place, and none takes that of another.
    if (Object.hasOwn(vocabulary, content)) return [{ ...token, id: vocabulary[content] }]
    const isFree = /^\d{1,7}$/.test(id) && content !== "" && !taken.has(Number(id))
    return isFree ? [{ ...token, id: Number(id) }] : []
  })
  return missing.length === 0 ? json : { ...json, added_tokens: [...listed, ...missing] }
}
