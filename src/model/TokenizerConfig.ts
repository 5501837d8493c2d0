/**
 * A model folder's `tokenizer_config.json`: what the tokenizer and the chat template need of it.
 */
import { Effect, Schema } from "effect"
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

/** The parts of a `tokenizer_config.json` that Charter uses. */
export interface TokenizerConfig {
  /** Special tokens by their key, such as `eos_token`; one that is not set is missing. */
  readonly tokens: Readonly<Partial<Record<"bos_token" | "eos_token" | "unk_token" | "pad_token", string>>>
  /** Whether a text starts with the bos token. */
  readonly addBos: boolean
  /** One template, or several by name. */
  readonly chatTemplate: string | ReadonlyArray<{ readonly name: string; readonly template: string }> | undefined
  /** The file as it is, for a library that wants it whole. */
  readonly json: object
}

/** Reads `tokenizer_config.json` of a model folder; a folder without one has no special tokens and no template. */
export const read = Effect.fnUntraced(function* (
  dir: string
): Effect.fn.Return<TokenizerConfig, ModelFile.CheckpointError> {
  const file = path.join(dir, "tokenizer_config.json")
  const json = (yield* ModelFile.readJson(file)) ?? {}
  const found = yield* Effect.mapError(
    decode(json),
    (error) =>
      new ModelFile.CheckpointError({
        file,
        reason: `is not understood: ${reason(error)}; take the file from the model's own folder`
      })
  )
  const tokens: Record<string, string> = {}
  for (const key of ["bos_token", "eos_token", "unk_token", "pad_token"] as const) {
    const token = found[key]
    if (token !== undefined && token !== null) tokens[key] = typeof token === "string" ? token : token.content
  }
  return { tokens, addBos: found.add_bos_token ?? false, chatTemplate: found.chat_template ?? undefined, json }
})
