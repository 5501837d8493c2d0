/**
 * Normalizers: what the JavaScript library's normalizers make of texts otherwise than those in Rust.
 *
 * White space is Unicode's White_Space in Rust, and letters are lowered one by one there: a Σ becomes a σ at the end of a
 * word, too.
 */

/** What is used of the library's normalizers. */
export interface Normalizer {
  readonly config?: {
    readonly type?: unknown
    readonly strip_left?: unknown
    readonly strip_right?: unknown
    readonly lowercase?: unknown
  }
  readonly normalizers?: ReadonlyArray<Normalizer | null>
  normalize: (text: string) => string
}

/** Whether a unit of a text is white space, as Unicode has it. */
export const isSpace = (unit: string | undefined): boolean => unit !== undefined && /^\p{White_Space}$/u.test(unit)

const stripped = (text: string, left: boolean, right: boolean): string => {
  let [start, end] = [0, text.length]
  if (left) while (isSpace(text[start])) start++
  if (right) while (end > start && isSpace(text[end - 1])) end--
  return text.slice(start, end)
}

const lowered = (text: string): string => Array.from(text, (character) => character.toLowerCase()).join("")

/** Has the library's normalizers normalise as in Rust. */
export const install = (normalizer: Normalizer | null): void => {
  if (normalizer === null) return
  const { lowercase, strip_left: left, strip_right: right, type } = normalizer.config ?? {}
  if (type === "Strip") {
    normalizer.normalize = (text) => stripped(text, left === true, right === true)
  }
  if (type === "Lowercase" || (type === "BertNormalizer" && lowercase === true)) {
    const normalize = normalizer.normalize.bind(normalizer)
    normalizer.normalize = (text) => normalize(lowered(text))
  }
  normalizer.normalizers?.forEach(install)
}
