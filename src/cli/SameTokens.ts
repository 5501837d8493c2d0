/**
 * SameTokens: whether a model reads what another one writes: each token of the one has to have its number in the other.
 */
import { Effect, Schema } from "effect"
import { join } from "node:path"
import * as ModelFile from "../model/ModelFile.ts"

const isTokenizer = Schema.is(
  Schema.Struct({
    model: Schema.Struct({
      // By number, or (Unigram) with a score in the order of their numbers.
      vocab: Schema.Union([
        Schema.Record(Schema.String, Schema.Number),
        Schema.Array(Schema.Tuple([Schema.String, Schema.Number]))
      ])
    }),
    added_tokens: Schema.optionalKey(Schema.Array(Schema.Struct({ id: Schema.Number, content: Schema.String })))
  })
)

const fileOf = (dir: string) => join(dir, "tokenizer.json")

/** The numbers of a folder's tokens, if it has a tokenizer that is understood. */
const numbers = Effect.fnUntraced(function* (dir: string) {
  const json = yield* ModelFile.readJson(fileOf(dir))
  if (!isTokenizer(json)) return undefined
  const { added_tokens = [], model } = json
  return new Map<string, number>([
    ...(Array.isArray(model.vocab)
      ? model.vocab.map(([token], id) => [token, id] as const)
      : Object.entries(model.vocab)),
    ...added_tokens.map(({ content, id }) => [content, id] as const)
  ])
})

/** The first token of `writer` that is another one in `reader`; none where one of the two has no tokenizer. */
export const difference = Effect.fnUntraced(function* (writer: string, reader: string) {
  // Most are a copy, and some have a quarter of a million tokens.
  if ((yield* ModelFile.readText(fileOf(writer))) === (yield* ModelFile.readText(fileOf(reader)))) return undefined
  const [written, read] = [yield* numbers(writer), yield* numbers(reader)]
  if (written === undefined || read === undefined) return undefined
  return [...written].find(([token, id]) => read.get(token) !== id)?.[0]
})
