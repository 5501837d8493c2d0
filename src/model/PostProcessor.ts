/**
 * Post-processors: which tokens a `tokenizer.json` puts in front of a text.
 *
 * A `TemplateProcessing` says it, or one of BERT's or RoBERTa's kind, alone or as one of a `Sequence`. Where there is
 * one, transformers 5 goes by it and no longer by the `add_bos_token` of `tokenizer_config.json`.
 */
import { Predicate } from "effect"

const list = (value: unknown): ReadonlyArray<unknown> => (Array.isArray(value) ? value : [])

/** A member of an object of JSON; undefined of anything else. */
const member = (value: unknown, name: string): unknown =>
  Predicate.isObject(value) ? (value as Readonly<Record<string, unknown>>)[name] : undefined

/** The ids in front of a text, as the file has them; undefined where nothing says so. */
export const start = (json: unknown): ReadonlyArray<unknown> | undefined => {
  switch (member(json, "type")) {
    case "Sequence": {
      const all = list(member(json, "processors")).map(start)
      return all.every((ids) => ids === undefined) ? undefined : all.toReversed().flatMap((ids) => ids ?? [])
    }
    case "TemplateProcessing": {
      const pieces = list(member(json, "single"))
      const first = pieces.findIndex((piece) => member(piece, "SpecialToken") === undefined)
      return pieces.slice(0, first < 0 ? pieces.length : first).flatMap((piece) => {
        const name = member(member(piece, "SpecialToken"), "id")
        return list(member(member(member(json, "special_tokens"), String(name)), "ids"))
      })
    }
    // These put one token in front, given with its id, and another behind.
    case "BertProcessing":
    case "RobertaProcessing":
      return list(member(json, "cls")).slice(1, 2)
    default:
      return undefined
  }
}
