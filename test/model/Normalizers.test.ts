import { describe, expect, it } from "@effect/vitest"
import * as Normalizers from "../../src/model/Normalizers.ts"

/** What a normalizer of this configuration makes of a text, where the library's own one does what JavaScript has. */
const normalized = (config: Normalizers.Normalizer["config"], text: string): string => {
  const inner: Normalizers.Normalizer = { config: config!, normalize: (text) => text.toLowerCase() }
  Normalizers.install({ normalizers: [null, inner], normalize: inner.normalize })
  return inner.normalize(text)
}

describe("normalizers", () => {
  it("strip what is white space in Unicode, at the ends that they are told", () => {
    const text = "\u0085 \ufeff x \ufeff\u0085"
    const strip = (left: boolean, right: boolean) =>
      normalized({ type: "Strip", strip_left: left, strip_right: right }, text)
    expect(strip(true, false)).toBe("\ufeff x \ufeff\u0085")
    expect(strip(false, true)).toBe("\u0085 \ufeff x \ufeff")
    expect(strip(true, true)).toBe("\ufeff x \ufeff")
    expect(normalized({ type: "Strip", strip_left: true, strip_right: true }, " \n\u0085")).toBe("")
  })

  it("lower letters one by one: a sigma is the same at the end of a word", () => {
    expect(normalized({ type: "Lowercase" }, "ΟΔΟΣ İ")).toBe("οδοσ i̇")
    expect(normalized({ type: "BertNormalizer", lowercase: true }, "ΟΔΟΣ")).toBe("οδοσ")
    expect(normalized({ type: "NFC" }, "ΟΔΟΣ")).toBe("οδος")
  })
})
