/**
 * Charsmaps: the normalisation that SentencePiece compiles into a model, such as nmt_nfkc.
 *
 * A `Precompiled` normalizer of a `tokenizer.json` holds it: four bytes for the length of a double-array trie
 * (https://github.com/s-yata/darts-clone), the trie, and the texts that its leaves point to, each with a zero at its
 * end. The JavaScript library applies NFKC in its place, which is another one.
 */

/** What is used of the library's normalizers. */
export interface Normalizer {
  readonly config?: { readonly type?: unknown; readonly precompiled_charsmap?: unknown }
  readonly normalizers?: ReadonlyArray<Normalizer | null>
  normalize: (text: string) => string
}

/** A unit of the trie: what leads to it, where its children are, and whether one of them is a leaf. */
const labelOf = (unit: number): number => (unit & 0x800000ff) >>> 0
const offsetOf = (unit: number): number => (unit >>> 10) << ((unit & 0x200) >>> 6)
const hasLeaf = (unit: number): boolean => (unit & 0x100) !== 0
const valueOf = (unit: number): number => unit & 0x7fffffff

/** Longer graphemes are looked up character by character, as in tokenizers. */
const longest = 5

/** The normalisation of a charsmap in base64; throws where it is none. */
export const make = (base64: string): ((text: string) => string) => {
  const bytes = Buffer.from(base64, "base64")
  const size = bytes.length < 4 ? 0 : bytes.readUInt32LE(0)
  if (size < 4 || size % 4 !== 0 || 4 + size > bytes.length) throw new Error("its precompiled_charsmap is no charsmap")
  const trie = Uint32Array.from({ length: size / 4 }, (_, i) => bytes.readUInt32LE(4 + 4 * i))
  const texts = bytes.subarray(4 + size)
  /** What the shortest beginning of a text that the trie has becomes. */
  const lookUp = (text: string): string | undefined => {
    let at = offsetOf(trie[0]!)
    for (const byte of Buffer.from(text)) {
      at ^= byte
      const unit = trie[at]
      if (byte === 0 || unit === undefined || labelOf(unit) !== byte) return undefined
      at ^= offsetOf(unit)
      if (!hasLeaf(unit)) continue
      const start = valueOf(trie[at] ?? 0)
      const end = texts.indexOf(0, start)
      return texts.toString("utf8", start, end < 0 ? texts.length : end)
    }
    return undefined
  }
  const graphemes = new Intl.Segmenter("und", { granularity: "grapheme" })
  return (text) =>
    Array.from(graphemes.segment(text), ({ segment }) => {
      const whole = Buffer.byteLength(segment) <= longest ? lookUp(segment) : undefined
      return whole ?? Array.from(segment, (character) => lookUp(character) ?? character).join("")
    }).join("")
}

/** Has the library's normalizers apply their charsmaps. */
export const install = (normalizer: Normalizer | null): void => {
  if (normalizer === null) return
  const { precompiled_charsmap: charsmap, type } = normalizer.config ?? {}
  if (type === "Precompiled" && typeof charsmap === "string") normalizer.normalize = make(charsmap)
  normalizer.normalizers?.forEach(install)
}
