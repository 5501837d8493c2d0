/**
 * AddedTokens: the tokens that a model folder adds to its tokenizer's vocabulary.
 *
 * `tokenizer.json` lists them, and `tokenizer_config.json` may have more of them under `added_tokens_decoder`, by id: a
 * tokenizer to which tokens were added by hand has them there alone. As in transformers, all of them count.
 */
import { Predicate } from "effect"

type Json = Readonly<Record<string, unknown>>

const isRecord = (json: unknown): json is Json => Predicate.isObject(json) && !Array.isArray(json)

/** A parsed `tokenizer.json` with the tokens of a parsed `tokenizer_config.json` that it lacks. Pure. */
export const complete = (json: unknown, config: Json): unknown => {
  const decoder = config["added_tokens_decoder"]
  if (!isRecord(json) || !isRecord(decoder)) return json
  const listed: unknown = json["added_tokens"] ?? []
  if (!Array.isArray(listed)) return json
  const valuesOf = (field: string) =>
    new Set(listed.map((token: unknown) => (isRecord(token) ? token[field] : undefined)))
  const [known, ids] = [valuesOf("content"), valuesOf("id")]
  const vocabulary = isRecord(json["model"]) ? json["model"]["vocab"] : undefined
  const taken = new Set<unknown>(isRecord(vocabulary) ? Object.values(vocabulary) : [])
  const missing = Object.entries(decoder).flatMap(([id, token]) => {
    if (!isRecord(token) || typeof token["content"] !== "string" || known.has(token["content"])) return []
    // One that the vocabulary has keeps its place, and none takes that of another.
    const own = isRecord(vocabulary) ? vocabulary[token["content"]] : undefined
    if (own !== undefined) return [{ ...token, id: own }]
    const isFree = /^\d{1,7}$/.test(id) && token["content"] !== "" && !ids.has(Number(id)) && !taken.has(Number(id))
    return isFree ? [{ ...token, id: Number(id) }] : []
  })
  return missing.length === 0 ? json : { ...json, added_tokens: [...listed, ...missing] }
}
