/**
 * A model folder's `tokenizer_config.json`: what the tokenizer and the chat template need of it.
 *
 * Older folders have special tokens in `special_tokens_map.json`, too. As in transformers, what it says counts where
 * `tokenizer_config.json` has no `added_tokens_decoder`.
 */
import { Effect, Option, Predicate, Schema } from "effect"
import * as path from "node:path"
import * as ModelFile from "./ModelFile.ts"
import { reason } from "./Quoted.ts"

/** A special token, written as its text or as an object around it. */
const Token = Schema.optionalKey(
  Schema.NullOr(Schema.Union([Schema.String, Schema.Struct({ content: Schema.String })]))
)

const Json = Schema.Struct({
  bos_token: Token,
  eos_token: Token,
  unk_token: Token,
  pad_token: Token,
  add_bos_token: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
  chat_template: Schema.optionalKey(
    Schema.NullOr(
      Schema.Union([Schema.String, Schema.Array(Schema.Struct({ name: Schema.String, template: Schema.String }))])
    )
  )
})
const decode = Schema.decodeUnknownEffect(Json)
const decodeToken = Schema.decodeUnknownOption(Schema.Union([Schema.String, Schema.Struct({ content: Schema.String })]))

/** The parts of a `tokenizer_config.json` that Charter uses. */
export interface TokenizerConfig {
  /** Special tokens by their key, such as `eos_token` or a model's own `image_token`; one that is not set is missing. */
  readonly tokens: Readonly<Record<string, string>>
  /** Whether a text starts with the bos token. */
  readonly addBos: boolean
  /** One template, or several by name. */
  readonly chatTemplate: string | ReadonlyArray<{ readonly name: string; readonly template: string }> | undefined
  /** The file as it is, with what counts of the older one, for a library that wants it whole. */
  readonly json: Readonly<Record<string, unknown>>
}

/** The entries of a record that are tokens, with their texts. */
const tokensOf = (json: unknown): ReadonlyArray<readonly [key: string, token: string]> =>
  Object.entries(Predicate.isObject(json) ? json : {}).flatMap(([key, value]) => {
    const token = Option.getOrUndefined(decodeToken(value))
    return token === undefined ? [] : [[key, typeof token === "string" ? token : token.content] as const]
  })

/** Those that are named after what they are for, such as `eos_token`. */
const namedTokens = (json: unknown) => tokensOf(json).filter(([key]) => key.endsWith("_token"))

/** Reads `tokenizer_config.json` of a model folder; a folder without one has no special tokens and no template. */
export const read = Effect.fnUntraced(function* (
  dir: string
): Effect.fn.Return<TokenizerConfig, ModelFile.CheckpointError> {
  const file = path.join(dir, "tokenizer_config.json")
  const own = (yield* ModelFile.readJson(file)) ?? {}
  const counts = !Predicate.hasProperty(own, "added_tokens_decoder")
  const older = counts ? yield* ModelFile.readJson(path.join(dir, "special_tokens_map.json")) : {}
  const found = yield* Effect.mapError(
    decode(own),
    (error) =>
      new ModelFile.CheckpointError({
        file,
        reason: `is not understood: ${reason(error)}; take the file from the model's own folder`
      })
  )
  const json: Readonly<Record<string, unknown>> = { ...own, ...Object.fromEntries(namedTokens(older)) }
  const tokens = Object.fromEntries([
    ...namedTokens(json),
    ...tokensOf(json["extra_special_tokens"]),
    ...tokensOf(json["model_specific_special_tokens"])
  ])
  return { tokens, addBos: found.add_bos_token ?? false, chatTemplate: found.chat_template ?? undefined, json }
})
