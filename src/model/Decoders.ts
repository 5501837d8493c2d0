/**
 * Decoders: what the JavaScript library's decoders make of tokens otherwise than those in Rust.
 */
import { Predicate } from "effect"

/** What is used of the library's decoders. */
export interface Decoder {
  readonly config?: { readonly type?: unknown; readonly replacement?: unknown; readonly prepend_scheme?: unknown }
  readonly byte_decoder?: Readonly<Record<string, string | number>>
  text_decoder?: { decode(bytes: Uint8Array): string }
  convert_tokens_to_string?: (tokens: ReadonlyArray<string>) => string
  decode_chain?: (tokens: ReadonlyArray<string>) => ReadonlyArray<string>
  readonly decoders?: ReadonlyArray<Decoder>
}

/** Marks for spaces as spaces; those of a text's first token say nothing where one is put in front of texts. */
const spaced = (mark: string, prepends: boolean) => (tokens: ReadonlyArray<string>) =>
  tokens.map((token, i) => token.replaceAll(mark, i === 0 && prepends ? "" : " "))

const [encoder, utf8] = [new TextEncoder(), new TextDecoder("utf-8", { ignoreBOM: true })]

/** Tokens written in characters that stand for bytes, as text; one with other characters is a text itself. */
const fromBytes = (byteOf: Readonly<Record<string, string | number>>) => (tokens: ReadonlyArray<string>) => {
  const bytes = tokens.flatMap((token) => {
    const found = Array.from(token, (character) => byteOf[character])
    return found.every((byte) => byte !== undefined) ? found.map(Number) : [...encoder.encode(token)]
  })
  return utf8.decode(Uint8Array.from(bytes))
}

/** Has the library's decoders decode as in Rust. */
export const install = (decoder: Decoder | null): void => {
  if (decoder === null) return
  // It may drop U+FEFF where it comes first; here it is a character like any other.
  if (decoder.text_decoder !== undefined) decoder.text_decoder = utf8
  if (decoder.byte_decoder !== undefined) decoder.convert_tokens_to_string = fromBytes(decoder.byte_decoder)
  const { prepend_scheme: scheme = "always", replacement = "▁", type } = decoder.config ?? {}
  // It takes the first space away whether there is a mark in front of texts or not.
  if (type === "Metaspace" && Predicate.isString(replacement))
    decoder.decode_chain = spaced(replacement, scheme !== "never")
  decoder.decoders?.forEach(install)
}
