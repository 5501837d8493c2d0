import { describe, expect, it } from "@effect/vitest"
import * as Charsmap from "../../src/model/Charsmap.ts"

/** A charsmap that makes `a` of A and `e!` of é. */
const charsmap = (): string => {
  const leaf = 1 << 8
  const units = new Uint32Array(1100)
  units[0] = 256 << 10
  const capital = 256 ^ 0x41
  units[capital] = 0x41 | leaf | (1 << 10)
  const first = 256 ^ 0xc3
  const second = first ^ 512 ^ 0xa9
  units[first] = 0xc3 | (512 << 10)
  units[second] = 0xa9 | leaf | (2 << 10)
  units[second ^ 2] = 2
  const bytes = Buffer.alloc(4 + 4 * units.length)
  bytes.writeUInt32LE(4 * units.length)
  units.forEach((unit, i) => bytes.writeUInt32LE(unit, 4 + 4 * i))
  return Buffer.concat([bytes, Buffer.from("a\0e!\0")]).toString("base64")
}

describe("a charsmap", () => {
  it("makes of texts what it makes of them in tokenizers", () => {
    const normalize = Charsmap.make(charsmap())
    expect(["AbA", "é", "xÉéA", "e\u0301", "日A", ""].map(normalize)).toEqual([
      "aba",
      "e!",
      "xÉe!a",
      "e\u0301",
      "日a",
      ""
    ])
    // A short grapheme becomes what its beginning becomes; of a long one each character is looked up.
    expect(["A\u0301b", "A\u0301\u0302\u0303"].map(normalize)).toEqual(["ab", "a\u0301\u0302\u0303"])
  })

  it("takes the place of what the library does, in a sequence, too", () => {
    const library = (text: string) => text.normalize("NFKC")
    const inner = { config: { type: "Precompiled", precompiled_charsmap: charsmap() }, normalize: library }
    const other = { config: { type: "NFKC" }, normalize: library }
    Charsmap.install({ config: { type: "Sequence" }, normalizers: [null, inner, other], normalize: library })
    expect([inner.normalize("Aﬁ"), other.normalize("Aﬁ")]).toEqual(["aﬁ", "Afi"])
  })

  it("is refused where it is none", () => {
    for (const broken of ["", "AAAA", charsmap().slice(0, 200)])
      expect(() => Charsmap.make(broken)).toThrow("no charsmap")
  })
})
