/**
 * Pre-tokenizers, written so that JavaScript splits as Rust does.
 *
 * A `tokenizer.json` is made for the Rust library, where white space is Unicode's White_Space and a digit is any
 * character of category N. In the JavaScript library `\s` also takes U+FEFF and leaves out U+0085, and `Digits` takes
 * decimal digits only, which gives other tokens for such texts. The same rules are therefore spelled out as patterns.
 */
import { Predicate } from "effect"

const split = (regex: string) => ({ type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false })

/** The pattern of GPT-2 (https://github.com/openai/gpt-2/blob/master/src/encoder.py), which ByteLevel means. */
const byteLevelPattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/** `\s` and `\S` as classes that mean the same in both languages, inside brackets too. */
const explicitSpace = (regex: string): string =>
  regex.replace(/\\([\s\S])/g, (escape, character) =>
    character === "s" ? "\\p{White_Space}" : character === "S" ? "\\P{White_Space}" : escape
  )

/** A `pre_tokenizer` of a `tokenizer.json`, changed to mean in JavaScript what it means in Rust. */
export const asInRust = (json: unknown): unknown => {
  if (!Predicate.isObject(json) || !Predicate.hasProperty(json, "type")) return json
  const config: Readonly<Record<string, unknown>> = { ...json }
  switch (config.type) {
    case "Sequence":
      return Array.isArray(config.pretokenizers)
        ? { ...config, pretokenizers: config.pretokenizers.map(asInRust) }
        : json
    case "Digits":
      return split(config.individual_digits === true ? "\\p{N}" : "\\p{N}+")
    case "Split":
      return Predicate.hasProperty(config.pattern, "Regex") && typeof config.pattern.Regex === "string"
        ? { ...config, pattern: { Regex: explicitSpace(config.pattern.Regex) } }
        : json
    case "FixedLength":
      // The library would cut a text into pieces of no length for ever.
      if (!(Number(config.length) >= 1)) throw new Error(`FixedLength has the length ${String(config.length)}`)
      return json
    case "ByteLevel":
      // The prefix space goes in front of the whole text, before it is split, so such a one stays as it is.
      return config.use_regex === false || config.add_prefix_space === true
        ? json
        : {
            type: "Sequence",
            pretokenizers: [split(explicitSpace(byteLevelPattern)), { ...config, use_regex: false }]
          }
    default:
      return json
  }
}
