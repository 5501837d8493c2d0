import { describe, expect, it } from "@effect/vitest"
import * as Decoders from "../../src/model/Decoders.ts"

describe("decoders", () => {
  it("take marks for spaces from a text's first token only where one was put in front of it, as in Rust", () => {
    const decoded = (scheme: string | undefined, ...tokens: ReadonlyArray<string>) => {
      const config = {
        type: "Metaspace",
        replacement: "▁",
        ...(scheme === undefined ? {} : { prepend_scheme: scheme })
      }
      const metaspace: Decoders.Decoder = { config, decode_chain: () => [] }
      // Behind another decoder, as byte fallback is in front of it.
      Decoders.install({ config: { type: "Sequence" }, decoders: [{ config: { type: "ByteFallback" } }, metaspace] })
      return metaspace.decode_chain!(tokens).join("")
    }
    expect(decoded("never", "▁two", "▁words")).toBe(" two words")
    expect(["always", "first", undefined].map((scheme) => decoded(scheme, "▁two", "▁words"))).toEqual([
      "two words",
      "two words",
      "two words"
    ])
    // A space of the token's own stays.
    expect(decoded("always", " <tool>", "▁x")).toBe(" <tool> x")
    expect(decoded("always", "▁▁▁x")).toBe("x")
  })

  it("of bytes leave a token as it is that is written in other characters than those for bytes", () => {
    const made: Decoders.Decoder = {
      config: { type: "ByteLevel" },
      byte_decoder: { h: "104", Ġ: "32", Ã: "195", "©": "169" }
    }
    Decoders.install(made)
    expect(made.convert_tokens_to_string!(["h", "Ġ", "日h", "Ġ日", "h h", "Ã", "©"])).toBe("h 日hĠ日h hé")
    expect(made.convert_tokens_to_string!(["Ã"])).toBe("\ufffd")
  })
})
