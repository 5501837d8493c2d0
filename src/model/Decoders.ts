/**
 * Decoders: what the JavaScript library's decoders make of tokens otherwise than those in Rust.
 */
import { Predicate } from "effect"

/** What is used of the library's decoders. */
export interface Decoder {
  readonly config?: { readonly type?: unknown; readonly replacement?: unknown; readonly prepend_scheme?: unknown }
  text_decoder?: { decode(bytes: Uint8Array): string }
  decode_chain?: (tokens: ReadonlyArray<string>) => ReadonlyArray<string>
  readonly decoders?: ReadonlyArray<Decoder>
}

/** Marks for spaces as spaces; those of a text's first token say nothing where one is put in front of texts. */
const spaced = (mark: string, prepends: boolean) => (tokens: ReadonlyArray<string>) =>
  tokens.map((token, i) => token.replaceAll(mark, i === 0 && prepends ? "" : " "))

/** Has the library's decoders decode as in Rust. */
export const install = (decoder: Decoder | null): void => {
  if (decoder === null) return
  // The decoder of byte tokens drops U+FEFF where it comes first; here it is a character like any other.
  if (decoder.text_decoder !== undefined) decoder.text_decoder = new TextDecoder("utf-8", { ignoreBOM: true })
  const { prepend_scheme: scheme = "always", replacement = "▁", type } = decoder.config ?? {}
  // It takes the first space away whether there is a mark in front of texts or not.
  if (type === "Metaspace" && Predicate.isString(replacement))
    decoder.decode_chain = spaced(replacement, scheme !== "never")
  decoder.decoders?.forEach(install)
}
