/**
 * Tokenizers: text to token ids and back, from a model folder's `tokenizer.json`.
 */
import * as Library from "@huggingface/tokenizers"
import { Effect, Predicate, Result, Schema } from "effect"
import * as path from "node:path"
import * as AddedTokenSplit from "./AddedTokenSplit.ts"
import * as AddedTokens from "./AddedTokens.ts"
import * as Bounded from "./Bounded.ts"
import * as Charsmap from "./Charsmap.ts"
import * as Continuation from "./Continuation.ts"
import * as Decoders from "./Decoders.ts"
import * as LeastTokens from "./LeastTokens.ts"
import * as ModelFile from "./ModelFile.ts"
import * as Normalizers from "./Normalizers.ts"
import * as PostProcessor from "./PostProcessor.ts"
import * as PreTokenizer from "./PreTokenizer.ts"
import { quotedJson, reason } from "./Quoted.ts"
import * as TokenizerConfig from "./TokenizerConfig.ts"
import * as TokenizerVocabulary from "./TokenizerVocabulary.ts"
import * as UnknownPieces from "./UnknownPieces.ts"

/** A `tokenizer.json` or `tokenizer_config.json` that is missing or not understood. */
export class TokenizerError extends Schema.TaggedError<TokenizerError>()("TokenizerError", {
  file: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.file} ${this.reason}.`
  }
}

/** A model's tokenizer; all of it is pure. */
export interface Tokenizer {
  /**
   * A text's token ids.
   *
   * Nothing is added at the start or the end, but special tokens written in the text are recognised: a text from
   * outside that must not speak for the template should be checked first.
   */
  readonly encode: (text: string) => Array<number>
  /** How many tokens a text has at least, told far sooner than what they are; 0 where that is not known. */
  readonly least: (text: string) => number
  /** The token ids of a text that goes on after another: without the space that some tokenizers put in front of one. */
  readonly encodeAfter: (text: string) => Array<number>
  /**
   * The text of token ids, exactly: no spaces are cleaned up. Ids that no token has say nothing; bytes that are not yet
   * a character become U+FFFD, as do characters that the vocabulary has not all bytes of.
   */
  readonly decode: (ids: ReadonlyArray<number>, options?: { readonly skipSpecialTokens?: boolean }) => string
  /** One more than the largest token id; a model's vocabulary may be padded beyond it. */
  readonly size: number
  /** The id of a token by its exact text in the vocabulary. */
  readonly idOf: (token: string) => number | undefined
  /** The tokens that are marked as special, and those that `tokenizer_config.json` names, such as its eos_token. */
  readonly specialIds: ReadonlySet<number>
  /**
   * The tokens a text has to start with: those of the post-processor, or the bos token where it says nothing
   * and `tokenizer_config.json` says add_bos_token.
   */
  readonly start: ReadonlyArray<number>
  /** The token that ends a text. */
  readonly eos: number | undefined
}

/** What is used of the library's class, whose own declarations TypeScript does not resolve under NodeNext. */
interface LibraryTokenizer extends AddedTokenSplit.Tokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): UnknownPieces.Encoding
  decode(ids: ReadonlyArray<number>, options: { clean_up_tokenization_spaces: boolean }): string
  token_to_id(token: string): number | undefined
  id_to_token(id: number): string | undefined
  get_added_tokens_decoder(): ReadonlyMap<number, { readonly special: boolean }>
  readonly decoder: Decoders.Decoder | null
  readonly normalizer: Charsmap.Normalizer & Normalizers.Normalizer
  readonly pre_tokenizer: (PreTokenizer.PreTokenizer & NonNullable<AddedTokenSplit.Tokenizer["pre_tokenizer"]>) | null
  readonly model: UnknownPieces.Model
}

/** A pattern that backtracks without end is stopped after this many ms. */
const patience = 2000

/** What a tokenizer has to be able to read: words that try patterns, and what reaches the bytes, where there are any. */
const trial = `${"a".repeat(40)}! ${"1".repeat(40)}\nHi, it's 42!\n\n  é 日本 🙂\u0007`

/**
 * Loads the tokenizer of a model folder.
 *
 * Fails with a `TokenizerError` when it is missing or not understood, or when its tokens do not fit a model of
 * `vocabSize` tokens. Added tokens may lie beyond it, as those for images in text models do: the network refuses them.
 */
export const load = Effect.fn("Tokenizer.load")(function* (
  dir: string,
  vocabSize: number = Number.POSITIVE_INFINITY
): Effect.fn.Return<Tokenizer, TokenizerError> {
  const file = path.join(dir, "tokenizer.json")
  const own = yield* asTokenizerError(ModelFile.readJson(file))
  if (own === undefined) {
    return yield* new TokenizerError({
      file: dir,
      reason: "has no tokenizer.json; save the model's fast tokenizer in this folder"
    })
  }
  const config = yield* asTokenizerError(TokenizerConfig.read(dir))
  const json = AddedTokens.complete(typed(own), config.json)
  const vocabulary = yield* Effect.fromResult(
    Result.mapError(
      TokenizerVocabulary.fromJson(json),
      (wrong) => new TokenizerError({ file, reason: `is not understood: it ${wrong}; save it again` })
    )
  )
  if (vocabulary.largest >= vocabSize) {
    return yield* new TokenizerError({
      file,
      reason: `has the token ${vocabulary.largest} where the model's vocabulary has ${vocabSize}; put the files of one model together`
    })
  }
  const { after, library } = yield* Effect.try({
    try: () => {
      const written = portable(json)
      const continuation = Continuation.of(written)
      const made = libraryTokenizer(written, config.json)
      // Much of what is wrong with a tokenizer shows only when it is used.
      Bounded.within(patience, () => {
        const ids = made.encode(trial, { add_special_tokens: false }).ids.filter((id) => id !== undefined)
        if (ids.length > 0) made.decode(ids, plain)
      })
      const after = continuation === undefined ? undefined : libraryTokenizer(continuation, config.json)
      return { after, library: made }
    },
    catch: (cause) =>
      new TokenizerError({
        file,
        reason: `is not understood: ${reason(cause)}; save it with the current tokenizers package`
      })
  })
  const idOf = (token: string | undefined) => (token === undefined ? undefined : library.token_to_id(token))
  // The tokens that the configuration names are special, whatever the file says of them: so it is in transformers, too.
  const named = Object.values(config.tokens).map(idOf)
  const added = library.get_added_tokens_decoder()
  const marked = [...added].filter(([, token]) => token.special).map(([id]) => id)
  const specialIds = new Set([...marked, ...named.filter((id) => id !== undefined)])
  for (const key of ["bos_token", "eos_token"] as const) {
    const id = idOf(config.tokens[key])
    if (id !== undefined && id >= vocabSize) {
      return yield* new TokenizerError({
        file: path.join(dir, "tokenizer_config.json"),
        reason: `has as ${key} the token ${id} where the model's vocabulary has ${vocabSize}; put the files of one model together`
      })
    }
  }
  const bos = config.addBos ? idOf(config.tokens.bos_token) : undefined
  const start = PostProcessor.start(Predicate.hasProperty(json, "post_processor") ? json.post_processor : undefined)
  const isToken = (id: unknown): id is number =>
    typeof id === "number" && id < vocabSize && library.id_to_token(id) !== undefined
  if (start !== undefined && !start.every(isToken)) {
    return yield* new TokenizerError({
      file,
      reason: `starts a text with the tokens ${quotedJson(start)}, which the model does not have; put the files of one model together`
    })
  }
  const resolve = UnknownPieces.resolve(Predicate.hasProperty(json, "model") ? json.model : undefined, idOf)
  const idsOf = (made: LibraryTokenizer, text: string) => resolve(made.encode(text, { add_special_tokens: false }))
  const untilAdded = (ids: ReadonlyArray<number>) => {
    const at = ids.findIndex((id) => added.has(id))
    return at < 0 ? ids.length : at
  }
  return {
    encode: (text) => idsOf(library, text),
    least: LeastTokens.of(json),
    encodeAfter: (text) => {
      if (after === undefined) return idsOf(library, text)
      const continued = idsOf(after, text)
      const end = untilAdded(continued)
      if (end === continued.length) return continued
      // What follows an added token in the text is a beginning again.
      const ids = idsOf(library, text)
      return [...continued.slice(0, end), ...ids.slice(untilAdded(ids))]
    },
    decode: (ids, options) => {
      const skip = options?.skipSpecialTokens === true
      const known = ids.filter((id) => library.id_to_token(id) !== undefined && !(skip && specialIds.has(id)))
      // The library refuses an empty list.
      if (known.length === 0) return ""
      return library.decode(known, plain)
    },
    size: vocabulary.largestAdded + 1,
    idOf,
    specialIds,
    start: start ?? (bos === undefined ? [] : [bos]),
    eos: idOf(config.tokens.eos_token)
  }
})

/** What the library does to a text before its normalizer, by the configuration: neither Rust nor transformers does. */
const untouched = { remove_space: false, do_lowercase_and_remove_accent: false }

/** A normalizer that changes nothing: without any, the library looks for all added tokens at once. */
const unchanged = { type: "Sequence", normalizers: [] }

const libraryTokenizer = (json: object & { readonly normalizer?: object | null }, config: object): LibraryTokenizer => {
  const normalizer = json.normalizer ?? unchanged
  const made: LibraryTokenizer = new Library.Tokenizer({ ...json, normalizer }, { ...config, ...untouched })
  Decoders.install(made.decoder)
  Charsmap.install(made.normalizer)
  Normalizers.install(made.normalizer)
  PreTokenizer.install(made.pre_tokenizer)
  UnknownPieces.leaveOutBeforeMerging(made.model, json)
  UnknownPieces.fuseWithinWords(made.model)
  AddedTokenSplit.install(made)
  return made
}

const plain = { clean_up_tokenization_spaces: false }

/** Files without the type of their model: one with merges is of byte pairs, as in Rust. The library merges nothing there. */
const typed = (json: unknown): unknown => {
  const model = Predicate.isObject(json) ? json["model"] : undefined
  return Predicate.isObject(json) && Predicate.isObject(model) && !("type" in model) && Array.isArray(model["merges"])
    ? { ...json, model: { type: "BPE", ...model } }
    : json
}

const portable = (json: unknown): object =>
  Predicate.hasProperty(json, "pre_tokenizer")
    ? { ...json, pre_tokenizer: PreTokenizer.asInRust(json.pre_tokenizer) }
    : { ...(json as object) }

const asTokenizerError = Effect.mapError(
  ({ file, reason }: ModelFile.CheckpointError) => new TokenizerError({ file, reason })
)
